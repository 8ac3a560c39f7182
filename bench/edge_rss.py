# SPDX-License-Identifier: Apache-2.0
"""Resident memory of a node's agent: joined and idle, with 20 pods, with 50.

VmRSS of the agent's process and every child it has (it has none), the container runtime left out.
The node has joined through the link and runs real pods with the ServiceAccount volume that the API
server gives them. Each figure is read after ten quiet seconds, as the largest of five readings.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.pod_start import start_pods
from bench.rig import Bench, rss_bytes
from tests.rig.processes import children
from tests.rig.system import System

SETTLE_SECONDS = 10.0
READINGS = 5


def resident(system: System) -> float:
    """The agent's memory in MB, as the largest of a few readings."""
    assert system.edge is not None
    time.sleep(SETTLE_SECONDS)
    readings = []
    for _ in range(READINGS):
        pids = [system.edge.pid, *children(system.edge.pid)]
        readings.append(sum(rss_bytes(pid) for pid in pids))
        time.sleep(0.5)
    return max(readings) / 1e6


def main() -> int:
    bench = Bench("edge_rss")
    with (
        tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory,
        System(Path(directory) / "system") as system,
    ):
        bench.figure("edge_rss_idle", resident(system), "MB", goal=30, baseline=85)
        begun = 0
        for count, goal, baseline in ((20, 33, 102), (50, 36, 112)):
            start_pods(system, [f"pod-{number}" for number in range(begun, count)])
            begun = count
            bench.figure(
                f"edge_rss_{count}_pods", resident(system), "MB", goal=goal, baseline=baseline
            )
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
