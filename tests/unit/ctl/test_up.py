# SPDX-License-Identifier: Apache-2.0
"""What is in the way of ``kedge up`` is one line with the cause and one with the fix."""

from __future__ import annotations

import os
import socket

import pytest

from kedge.ctl import up
from kedge.ctl.failure import Failure


def failure(call, *arguments):
    with pytest.raises(Failure) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_a_port_that_is_in_use_is_named_with_its_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = failure(up.check_port, port, "127.0.0.1", "--api-port")
    assert found.reason == "PortInUse"
    assert str(found) == f"port {port}: something else listens on it"
    assert "--api-port" in found.hint
    up.check_port(port, "127.0.0.1", "--api-port")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    found = failure(up.prepare_directory, tmp_path / "file" / "data")
    assert found.reason == "NoAccess"
    assert "Not a directory" in str(found)
    assert "--dir" in found.hint


@pytest.mark.parametrize(("number", "reason"), [(30, "ReadOnly"), (28, "DiskFull")])
def test_a_disk_that_takes_nothing_is_told_apart(tmp_path, monkeypatch, number, reason):
    def refuse(self, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    assert failure(up.prepare_directory, tmp_path).reason == reason


def test_a_node_needs_root():
    found = failure(up.check_node, "unix:///x", 1000)
    assert (found.reason, "--no-edge" in found.hint) == ("NotRoot", True)


@pytest.mark.parametrize(
    ("endpoint", "reason", "says"),
    [
        ("unix:///nonexistent/containerd.sock", "NoRuntime", "No such file or directory"),
        ("tcp://127.0.0.1:1", "EndpointInvalid", "wanted unix:///path, got: tcp://127.0.0.1:1"),
    ],
)
def test_a_container_runtime_that_is_not_there_is_named(endpoint, reason, says):
    found = failure(up.check_runtime, endpoint)
    assert found.reason == reason
    assert says in str(found)


def test_a_socket_that_nobody_listens_on_is_no_runtime(tmp_path):
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    assert "Connection refused" in str(failure(up.check_runtime, f"unix://{path}"))


def test_a_bad_node_name_is_refused_before_anything_starts():
    found = failure(up.node_name, "Edge_1")
    assert (found.reason, "--node-name" in found.hint) == ("NameInvalid", True)
    assert up.node_name("edge-1") == "edge-1"
