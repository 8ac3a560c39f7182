# SPDX-License-Identifier: Apache-2.0
"""The floor under pod starts: the same sandboxes and containers, driven directly over CRI.

No API, no link: run a sandbox with a network, create a container in it, start it; all at once. A full
one has four directories mounted, and two commands are run in it, one after the other, as a startup and a
readiness probe do. What kedge adds to this is kedge's; other benchmarks call ``measure`` in their own run,
because the floor moves with the machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from bench.rig import Bench, percentile, rss_bytes
from tests.rig.containerd import Containerd
from tests.rig.images import IMAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kedge.edge.runtime.cri import CriRuntime

ROUNDS = 3
PROBES = 2
VOLUMES = ("token", "settings", "key", "work")


def measure(
    containerd: Containerd, counts: tuple[int, ...] = (1, 20, 50), *, full: bool = False
) -> dict[int, float]:
    """Seconds from the first call until the last is ready, by how many were started at once."""
    return asyncio.run(_measure(containerd, counts, full=full))


async def _measure(
    containerd: Containerd, counts: tuple[int, ...], *, full: bool
) -> dict[int, float]:
    logs = containerd.directory / "direct-cri-logs"
    async with connected(containerd.endpoint) as runtime:
        await _round(runtime, 1, logs, full=full)
        found = {}
        for count in counts:
            rounds = ROUNDS if count == 1 else 1
            found[count] = percentile(
                [await _round(runtime, count, logs, full=full) for _ in range(rounds)], 0.5
            )
        return found


@asynccontextmanager
async def connected(endpoint: str) -> AsyncIterator[CriRuntime]:
    """A runtime client that is being pumped."""
    from kedge.edge.runtime.cri import CriRuntime
    from kedge.runtime import Runtime

    tokio = Runtime(2)
    runtime = CriRuntime(tokio, endpoint)
    async with asyncio.TaskGroup() as group:
        pump = group.create_task(runtime.run())
        try:
            yield runtime
        finally:
            pump.cancel()
    tokio.close()


async def _round(runtime: CriRuntime, count: int, logs: Path, *, full: bool) -> float:
    begin = time.monotonic()
    sandboxes = await asyncio.gather(
        *(_start(runtime, number, logs, full=full) for number in range(count))
    )
    seconds = time.monotonic() - begin
    await asyncio.gather(*(_remove(runtime, sandbox) for sandbox in sandboxes))
    return seconds


def sandbox_config(number: int, logs: Path) -> dict[str, Any]:
    """A sandbox as a pod of the other benchmarks gets one."""
    return {
        "metadata": {
            "name": f"direct-{number}",
            "namespace": "default",
            "uid": f"direct-{number}",
            "attempt": 0,
        },
        "hostname": f"direct-{number}",
        "log_directory": str(logs / str(number)),
        "linux": {},
    }


async def _start(runtime: CriRuntime, number: int, logs: Path, *, full: bool) -> str:
    config = sandbox_config(number, logs)
    sandbox = await runtime.run_sandbox(config)
    container = {
        "metadata": {"name": "main", "attempt": 0},
        "image": {"image": IMAGE},
        "command": ["sleep", "1000000"],
        "log_path": "main.log",
        "linux": {},
        "mounts": _mounts(logs / f"volumes-{number}") if full else [],
    }
    created = await runtime.create_container(sandbox, container, config)
    await runtime.start_container(created)
    for _ in range(PROBES if full else 0):
        result = await runtime.exec_sync(created, ["true"], 10)
        assert result.exit_code == 0, result
    return sandbox


def _mounts(directory: Path) -> list[dict[str, Any]]:
    found = []
    for name in VOLUMES:
        (directory / name).mkdir(parents=True, exist_ok=True)
        found.append({"host_path": str(directory / name), "container_path": f"/{name}"})
    return found


async def _remove(runtime: CriRuntime, sandbox: str) -> None:
    await runtime.stop_sandbox(sandbox)
    await runtime.remove_sandbox(sandbox)


def main() -> int:
    bench = Bench("direct_cri")
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory:
        containerd = Containerd(Path(directory))
        try:
            containerd.start()
            for count, seconds in measure(containerd).items():
                bench.figure(f"direct_cri_{count}_last", seconds, "s")
            bench.figure("client_rss", rss_bytes(os.getpid()) / 1e6, "MB")
        finally:
            containerd.stop()
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
