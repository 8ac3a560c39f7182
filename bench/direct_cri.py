# SPDX-License-Identifier: Apache-2.0
"""The floor under pod starts: the same sandboxes and containers, driven directly over CRI.

No API, no link, no volumes: run a sandbox with a network, create a container in it, start it; all at
once. What kedge adds to this is kedge's; other benchmarks call ``measure`` in their own run, because
the floor moves with the machine.
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


def measure(containerd: Containerd, counts: tuple[int, ...] = (1, 20, 50)) -> dict[int, float]:
    """Seconds from the first call to the last container's start, by how many were started at once."""
    return asyncio.run(_measure(containerd, counts))


async def _measure(containerd: Containerd, counts: tuple[int, ...]) -> dict[int, float]:
    logs = containerd.directory / "direct-cri-logs"
    async with connected(containerd.endpoint) as runtime:
        await _round(runtime, 1, logs)
        found = {}
        for count in counts:
            rounds = ROUNDS if count == 1 else 1
            found[count] = percentile(
                [await _round(runtime, count, logs) for _ in range(rounds)], 0.5
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


async def _round(runtime: CriRuntime, count: int, logs: Path) -> float:
    begin = time.monotonic()
    sandboxes = await asyncio.gather(*(_start(runtime, number, logs) for number in range(count)))
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


async def _start(runtime: CriRuntime, number: int, logs: Path) -> str:
    config = sandbox_config(number, logs)
    sandbox = await runtime.run_sandbox(config)
    container = {
        "metadata": {"name": "main", "attempt": 0},
        "image": {"image": IMAGE},
        "command": ["sleep", "1000000"],
        "log_path": "main.log",
        "linux": {},
    }
    created = await runtime.create_container(sandbox, container, config)
    await runtime.start_container(created)
    return sandbox


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
