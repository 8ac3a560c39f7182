# SPDX-License-Identifier: Apache-2.0
"""A node reboots while the cloud is away: how long until its 20 pods run again.

The agent is killed, every container and sandbox is removed and containerd restarted, as a boot leaves
it; then the agent starts with the link still cut. Counted from the agent's start to the last container
running, as containerd says.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.pod_start import start_pods
from bench.rig import Bench
from tests.rig.system import System

COUNT = 20


def main() -> int:
    bench = Bench("reboot")
    with (
        tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory,
        System(Path(directory)) as system,
    ):
        start_pods(system, [f"pod-{number}" for number in range(COUNT)])
        system.cut_link()
        seconds = system.reboot_node(running=COUNT, seconds=120)
        bench.figure("reboot_offline_20_pods", seconds, "s", goal=5)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
