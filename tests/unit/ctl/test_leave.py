# SPDX-License-Identifier: Apache-2.0
"""A hub that is away, silent or something else: the reset says so and goes on."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from kedge.ctl import leave
from kedge.hub import certificates
from tests.rig.processes import free_port


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    authority = certificates.create_ca("kedge-test", days=1)
    request = certificates.make_csr("system:node:a")
    name = "system:node:a"
    signed = certificates.sign_csr(authority, request.certificate, common_name=name, days=1)
    for name, text in (
        ("ca.crt", authority.certificate),
        ("node.crt", signed),
        ("node.key", request.key),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_nobody_there_is_said(pki: Path) -> None:
    port = free_port()
    assert f"127.0.0.1:{port} cannot be asked: " in leave.ask(f"127.0.0.1:{port}", pki)
    assert "wanted HOST:PORT, got: nowhere" in leave.ask("nowhere", pki)


def test_a_silent_hub_is_given_up(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leave, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert (
            leave.ask(f"127.0.0.1:{port}", pki) == f"127.0.0.1:{port} did not answer within 0.2 s"
        )


def test_something_else_that_listens_is_said(pki: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            assert "cannot be asked: " in leave.ask(f"127.0.0.1:{other.getsockname()[1]}", pki)
        finally:
            thread.join()


def test_a_certificate_that_cannot_be_read_is_said(pki: Path) -> None:
    (pki / "node.key").write_text("a key")
    assert "cannot be asked: " in leave.ask("127.0.0.1:1", pki)


@pytest.mark.parametrize("answer", [b"", b"hello", b"HTTP/1.1 OK\r\n\r\n"])
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match="wanted an HTTP answer"):
        leave._parsed(answer)


def test_an_answer_is_a_status_and_a_line() -> None:
    assert leave._parsed(b'HTTP/1.1 403 Forbidden\r\na: b\r\n\r\n{"message": "no,\\n never"}') == (
        403,
        "no, never",
    )
    assert leave._parsed(b"HTTP/1.1 404 Not Found\r\n\r\nnot found\n") == (404, "not found")
