# SPDX-License-Identifier: Apache-2.0
"""What crosses the link, TLS included: one pod's life, idling with 20 pods, and coming back after a cut.

A proxy between the node and the hub counts the bytes of each direction and cuts the link.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.pod_start import PODS, remove_pods, start_pods
from bench.rig import Bench
from tests.rig.api import Api, Watch, is_ready
from tests.rig.pods import pod
from tests.rig.system import System

CUT_SECONDS = 60
IDLE_SECONDS = 120


def one_life(system: System) -> int:
    """Bytes both ways of: ConfigMap and pod created, Ready, ConfigMap changed once, pod deleted."""
    before = system.link_bytes()
    maps = "/api/v1/namespaces/default/configmaps"
    system.api.create(
        maps,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "life"},
            "data": {"key": "one"},
        },
    )
    watch = Watch(Api(system.kubeconfig), PODS)
    try:
        system.api.create(PODS, pod("life", config_map="life"))
        watch.wait(lambda pods: is_ready(pods.get("life", {})), 60)
        system.api.merge(f"{maps}/life", {"data": {"key": "two"}})
        time.sleep(3)
        system.api.delete(f"{PODS}/life")
        watch.wait(lambda pods: "life" not in pods, 60)
    finally:
        watch.close()
    system.api.delete(f"{maps}/life")
    time.sleep(2)
    return system.link_bytes() - before


def reconnect(system: System) -> tuple[float, int]:
    """Cuts the link for a minute; seconds from its return to the node Ready, and bytes to settle."""
    nodes = Watch(Api(system.kubeconfig), "/api/v1/nodes")
    try:
        system.cut_link()
        time.sleep(CUT_SECONDS)
        nodes.wait(lambda all_nodes: not is_ready(all_nodes[system.node_name]), 30)
        before = system.link_bytes()
        begin = time.monotonic()
        system.restore_link()
        ready = nodes.wait(lambda all_nodes: is_ready(all_nodes[system.node_name]), 120)
        time.sleep(5)
        return ready - begin, system.link_bytes() - before
    finally:
        nodes.close()


def main() -> int:
    bench = Bench("link")
    with (
        tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory,
        System(Path(directory), delay_seconds=0.15) as system,
    ):
        start_pods(system, ["warm-up"])
        remove_pods(system, ["warm-up"])
        time.sleep(3)
        bench.figure("one_pod_life", one_life(system) / 1000, "KB", goal=5, baseline=104)
        start_pods(system, [f"idle-{number}" for number in range(20)])
        time.sleep(10)
        before = system.link_bytes()
        time.sleep(IDLE_SECONDS)
        idle = (system.link_bytes() - before) / 1000 / (IDLE_SECONDS / 60)
        bench.figure("idle_20_pods", idle, "KB/min", goal=2, baseline=15.4)
        seconds, count = reconnect(system)
        bench.figure("ready_after_60s_cut", seconds, "s", goal=2, baseline=43)
        bench.figure("resync_20_unchanged_pods", count / 1000, "KB", goal=8, baseline=339)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
