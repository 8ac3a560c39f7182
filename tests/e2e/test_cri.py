# SPDX-License-Identifier: Apache-2.0
"""The CRI client against containerd: what only the real runtime can show."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.direct_cri import connected
from kedge.edge.kubelet.container.environment import Place
from kedge.edge.kubelet.container.logs import Limits, Rotator
from kedge.edge.kubelet.volumes import Volumes
from kedge.edge.runtime import CallFailed
from tests.rig.containerd import Containerd
from tests.rig.images import IMAGE
from tests.rig.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kedge.edge.runtime.cri import CriRuntime

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

UNAVAILABLE, DEADLINE = 14, 4


@pytest.fixture
async def runtime(containerd: Containerd) -> AsyncIterator[CriRuntime]:
    async with connected(containerd.endpoint) as found:
        yield found
        for one in await found.list_sandboxes():
            await found.stop_sandbox(one.id)
            await found.remove_sandbox(one.id)


def sandbox_config(name: str, logs: Path) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "attempt": 0}
    return {"metadata": metadata, "hostname": name, "log_directory": str(logs / name), "linux": {}}


async def start(
    runtime: CriRuntime,
    logs: Path,
    name: str,
    script: str,
    mounts: list[dict[str, Any]] | None = None,
) -> tuple[str, str]:
    config = sandbox_config(name, logs)
    sandbox = await runtime.run_sandbox(config)
    (logs / name).mkdir(parents=True, exist_ok=True)
    container = {
        "metadata": {"name": "main", "attempt": 0},
        "image": {"image": IMAGE},
        "command": ["sh", "-c", script],
        "log_path": "main.log",
        "mounts": mounts or [],
        "linux": {},
    }
    created = await runtime.create_container(sandbox, container, config)
    await runtime.start_container(created)
    return sandbox, created


async def exited(runtime: CriRuntime, container: str) -> int:
    async with asyncio.timeout(30):
        while True:
            found = await runtime.container_status(container)
            assert found is not None
            if found.state == "exited":
                return found.exit_code
            await asyncio.sleep(0.05)


async def answers(runtime: CriRuntime) -> None:
    """After a restart containerd listens before it is ready to work."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(CallFailed):
                await runtime.list_containers()
                return
            await asyncio.sleep(0.05)


async def test_output_and_exit_code_of_a_command_come_back_as_bytes(
    runtime: CriRuntime, tmp_path: Path
) -> None:
    _, container = await start(runtime, tmp_path, "exec", "sleep 1000")
    found = await runtime.exec_sync(
        container, ["sh", "-c", r"printf 'a\377'; echo no >&2; exit 7"], 10
    )
    assert (found.exit_code, found.stdout, found.stderr) == (7, b"a\xff", b"no\n")


async def test_a_command_that_takes_too_long_is_a_deadline_exceeded(
    runtime: CriRuntime, tmp_path: Path
) -> None:
    _, container = await start(runtime, tmp_path, "slow", "sleep 1000")
    with pytest.raises(CallFailed) as caught:
        await runtime.exec_sync(container, ["sleep", "100"], 1)
    assert caught.value.code == DEADLINE


async def test_a_log_is_written_in_the_format_of_cri(runtime: CriRuntime, tmp_path: Path) -> None:
    _, container = await start(runtime, tmp_path, "logs", "echo out; echo err >&2")
    assert await exited(runtime, container) == 0
    lines = (tmp_path / "logs" / "main.log").read_text().splitlines()
    assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F err", "stdout F out"]


async def test_a_grown_log_is_rotated_without_losing_a_line(
    runtime: CriRuntime, tmp_path: Path
) -> None:
    script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; sleep 1000"
    _, container = await start(runtime, tmp_path / "default_logs_uid", "main", script)
    path = tmp_path / "default_logs_uid" / "main" / "main.log"
    rotator = Rotator(lambda: [(container, str(path))], runtime, Limits(file_bytes=4096, files=20))

    def written() -> list[str]:
        files = sorted(one for one in path.parent.iterdir() if one.suffix != ".gz")
        return [line.split(" ", 3)[3] for one in files for line in one.read_text().splitlines()]

    rotated: list[str] = []
    async with asyncio.timeout(30):
        while len(rotated) < 1 or "line 399" not in written():
            rotated += await rotator.look() if not rotated else []
            await asyncio.sleep(0.05)
    assert sorted(written(), key=lambda text: int(text.split()[1])) == [
        f"line {n}" for n in range(400)
    ]
    await runtime.stop_container(container, 0)


async def test_grace_lets_a_container_end_by_itself(runtime: CriRuntime, tmp_path: Path) -> None:
    script = "trap 'exit 5' TERM; while true; do sleep 0.1; done"
    _, container = await start(runtime, tmp_path, "polite", script)
    await asyncio.sleep(0.3)
    await runtime.stop_container(container, 20)
    assert await exited(runtime, container) == 5


async def test_a_container_that_ignores_the_signal_is_killed_after_its_grace(
    runtime: CriRuntime, tmp_path: Path
) -> None:
    _, container = await start(
        runtime, tmp_path, "deaf", "trap '' TERM; while true; do sleep 0.1; done"
    )
    await asyncio.sleep(0.3)
    begin = time.monotonic()
    await runtime.stop_container(container, 1)
    assert await exited(runtime, container) == 137
    assert time.monotonic() - begin >= 1


async def test_the_client_comes_back_with_containerd_and_containers_run_on(
    containerd: Containerd, runtime: CriRuntime, tmp_path: Path
) -> None:
    _, container = await start(runtime, tmp_path, "restart", "sleep 1000")
    containerd.kill()
    with pytest.raises(CallFailed) as caught:
        await runtime.version()
    assert caught.value.code == UNAVAILABLE
    await asyncio.to_thread(containerd.restart)
    await answers(runtime)
    found = await runtime.container_status(container)
    assert found is not None
    assert found.state == "running"


async def test_events_go_on_after_containerd_was_away(
    containerd: Containerd, runtime: CriRuntime, tmp_path: Path
) -> None:
    _, container = await start(runtime, tmp_path, "events", "sleep 1000")
    async with contextlib.aclosing(runtime.events()) as events:  # type: ignore[type-var]
        async with asyncio.timeout(20):
            async for changed in events:
                if changed == container:
                    break
        await asyncio.to_thread(containerd.restart)
        await answers(runtime)
        await runtime.stop_container(container, 0)
        async with asyncio.timeout(20):
            async for changed in events:
                if changed == container:
                    break
    assert await exited(runtime, container) == 137


async def test_an_image_is_known_by_its_name_and_id_until_it_is_removed(
    containerd: Containerd, runtime: CriRuntime
) -> None:
    containerd.ctr("images", "tag", IMAGE, "docker.io/library/extra:1")
    extra = "docker.io/library/extra:1"
    async with asyncio.timeout(10):
        while True:
            found = await runtime.image_status(extra)
            if found is not None:
                break
            await asyncio.sleep(0.05)
    assert found.id in {one.id for one in await runtime.list_images()}
    assert (await runtime.image_status(found.id)) == found
    containerd.ctr("images", "rm", extra)
    async with asyncio.timeout(10):
        while True:
            if await runtime.image_status(extra) is None:
                break
            await asyncio.sleep(0.05)
    assert await runtime.image_status(IMAGE) is not None


async def test_a_container_sees_a_changed_secret_and_memory_of_its_size(
    runtime: CriRuntime, tmp_path: Path
) -> None:
    class Held:
        text = "b25l"

        def get(self, key: object) -> dict[str, Any]:
            return {"metadata": {"name": "s"}, "data": {"word": self.text}}

        def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
            return []

    held = Held()
    volumes = Volumes(tmp_path / "pods", tmp_path / "memory", lambda: Place("node"))
    pod = {
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-volumes"},
        "spec": {
            "containers": [{"name": "main"}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "s"}},
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        },
    }
    try:
        paths = {name: one.path for name, one in (await volumes.prepare(pod, held)).items()}
        mounts = [
            {"host_path": paths["s"], "container_path": "/secret", "readonly": True},
            {"host_path": paths["m"], "container_path": "/memory"},
        ]
        sandbox, container = await start(runtime, tmp_path, "volumes", "sleep 1000", mounts)
        assert (await runtime.exec_sync(container, ["cat", "/secret/word"], 10)).stdout == b"one"
        held.text = "dHdv"
        volumes.refresh(pod, held)
        assert (await runtime.exec_sync(container, ["cat", "/secret/word"], 10)).stdout == b"two"
        fill = ["dd", "if=/dev/zero", "of=/memory/x", "bs=64k", "count=32"]
        assert (await runtime.exec_sync(container, fill, 10)).exit_code != 0
        await runtime.stop_sandbox(sandbox)
        await runtime.remove_sandbox(sandbox)
        await volumes.remove("uid-volumes")
        assert not Path(paths["m"]).exists()
        assert not Path(paths["s"]).exists()
    finally:
        await volumes.remove("uid-volumes")
        volumes.close()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


async def test_two_instances_run_side_by_side_and_leave_nothing(
    containerd: Containerd, tmp_path: Path
) -> None:
    other = Containerd(tmp_path / "other")
    await asyncio.to_thread(other.start)
    try:
        assert other.subnet != containerd.subnet
        async with connected(other.endpoint) as runtime:
            sandbox, _ = await start(runtime, tmp_path, "left", "sleep 1000")
            found = await runtime.sandbox_status(sandbox)
            assert found is not None
            assert found.ips[0].rsplit(".", 1)[0] == other.subnet.rsplit(".", 1)[0]
    finally:
        await asyncio.to_thread(other.stop)
    assert other.shims() == []
    assert str(other.directory) not in Path("/proc/self/mounts").read_text()
    assert not Path(f"/sys/class/net/{other.bridge}").exists()
    wait_until(lambda: not (other.directory / "root").exists(), 5, "the files are gone")
