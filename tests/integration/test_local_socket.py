# SPDX-License-Identifier: Apache-2.0
"""The agent's socket on its node: who may open it, and that no length of a path or leftover stops it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kedge.edge.kubelet.serving.face import Answer, KubeletServer, Reply, Request
from kedge.errors import KedgeError
from kedge.runtime import Runtime
from tests.rig import local


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[KubeletServer]:
    runtime = Runtime(1)
    server = KubeletServer(runtime)

    async def handler(request: Request) -> Reply:
        return Answer("/".join(request.parts).encode(), status=201)

    server.listen(directory / "agent.sock")
    task = asyncio.get_running_loop().create_task(server.run(handler))
    try:
        yield server
    finally:
        task.cancel()
        runtime.close()


async def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    async with serving(tmp_path):
        found = (tmp_path / "agent.sock").stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert await asyncio.to_thread(local.ask, tmp_path, "/a/b") == (201, b"a/b")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
async def test_somebody_else_is_kept_out(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with serving(tmp_path):
        program = f"import socket; socket.socket(socket.AF_UNIX).connect({str(tmp_path / 'agent.sock')!r})"
        process = await asyncio.create_subprocess_exec(
            "/usr/bin/python3", "-c", program, user=65534, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"PermissionError" in errors


async def test_what_an_agent_left_is_replaced_and_a_long_path_is_no_matter(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 20) / ("longer" * 20)
    directory.mkdir(parents=True)
    (directory / "agent.sock").touch()
    (directory / "agent.sock.new").touch()
    async with serving(directory):
        assert (await asyncio.to_thread(local.ask, directory, "/x"))[0] == 201
    assert [one.name for one in directory.iterdir()] == ["agent.sock"]


async def test_a_directory_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    runtime = Runtime(1)
    try:
        with pytest.raises((KedgeError, OSError), match="No such file"):
            KubeletServer(runtime).listen(tmp_path / "absent" / "agent.sock")
    finally:
        runtime.close()


async def test_a_request_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path):

        def send() -> bytes:
            connection = local._Connection(tmp_path / "agent.sock", 5)
            connection.request("POST", "/x", body=b"x" * (128 * 1024))
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            assert answer.status == 413
            return body

        assert b"over 65536 bytes" in await asyncio.to_thread(send)
