# SPDX-License-Identifier: Apache-2.0
"""Resident memory of a node's agent: joined and idle, with 20 pods, with 50, with 110; and its idle CPU.

VmRSS of the agent's process and every child it has (it has none), the container runtime left out.
The node has joined through the link and runs real pods with the ServiceAccount volume that the API
server gives them. Each figure is read after ten quiet seconds, as the largest of five readings. With 20 pods
it is read again while ``kubectl logs -f`` follows one that writes. CPU is the agent's time over half a minute
in which nothing happens, as a share of one core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.pod_start import start_pods
from bench.rig import Bench, rss_bytes
from tests.rig.pods import pod
from tests.rig.processes import children
from tests.rig.system import System

SETTLE_SECONDS = 10.0
READINGS = 5
QUIET_SECONDS = 30.0


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


def idle_percent(system: System) -> float:
    """The agent's CPU time over a while, as percent of one core."""
    assert system.edge is not None
    before = cpu_seconds(system.edge.pid)
    time.sleep(QUIET_SECONDS)
    return (cpu_seconds(system.edge.pid) - before) / QUIET_SECONDS * 100


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def talking(name: str) -> dict[str, object]:
    """A pod that writes ten lines a second."""
    found = pod(name)
    script = "while :; do echo a line of ordinary length that says little; sleep 0.1; done"
    found["spec"]["containers"][0]["command"] = ["sh", "-c", script]
    return found


def followed(system: System) -> float:
    """The agent's memory while a log is followed through the link."""
    command = ["kubectl", "--kubeconfig", str(system.kubeconfig), "logs", "-f", "talker"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline()
        reading = resident(system)
        assert client.poll() is None
        client.terminate()
    return reading


def main() -> int:
    bench = Bench("edge_rss")
    with (
        tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory,
        System(Path(directory) / "system") as system,
    ):
        bench.figure("edge_rss_idle", resident(system), "MB", goal=30, baseline=85)
        start_pods(system, ["talker"], shape=talking)
        begun = 1
        for count, goal, baseline in ((20, 36, 102), (50, 36, 112), (110, 44, None)):
            start_pods(system, [f"pod-{number}" for number in range(begun, count)], 240)
            begun = count
            bench.figure(
                f"edge_rss_{count}_pods", resident(system), "MB", goal=goal, baseline=baseline
            )
            if count == 20:
                bench.figure("edge_rss_20_pods_logs_f", followed(system), "MB", goal=36)
        system.api.delete("/api/v1/namespaces/default/pods/talker")
        time.sleep(SETTLE_SECONDS)
        bench.figure("edge_cpu_110_pods", idle_percent(system), "% of a core", goal=2)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
