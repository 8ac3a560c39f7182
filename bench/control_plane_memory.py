# SPDX-License-Identifier: Apache-2.0
"""Memory of an idle control plane on one machine: supervisor, cluster and cloud, VmRSS.

Started as a person starts it (``kedge up --no-edge``), left alone, then read from /proc.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rig import Bench, rss_bytes
from tests.rig.processes import children, free_port, kedge, wait_until

IDLE_SECONDS = 15
BASELINE_MB = 510 + 71
"""etcd, kube-apiserver, kube-controller-manager, kube-scheduler; and cloudcore."""


def role_of(pid: int) -> str:
    """``cluster`` or ``cloud``, from the command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return next(
        word.decode().removeprefix("kedge.") for word in words if word.startswith(b"kedge.")
    )


def main() -> int:
    bench = Bench("control_plane_memory")
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory:
        ports = ["--api-port", str(free_port()), "--hub-port", str(free_port())]
        up = kedge("up", "--no-edge", "--dir", directory, *ports, log=Path(directory) / "up.log")
        try:
            wait_until(lambda: "kedge is up" in up.tail(), 30, "kedge is up", alive=up)
            time.sleep(IDLE_SECONDS)
            found = {"supervisor": rss_bytes(up.pid) / 1e6}
            found |= {role_of(pid): rss_bytes(pid) / 1e6 for pid in children(up.pid)}
        finally:
            up.stop(40)
    for name, megabytes in found.items():
        bench.figure(f"{name}_rss", megabytes, "MB", goal=15 if name == "supervisor" else None)
    bench.figure("control_plane_rss", sum(found.values()), "MB", goal=120, baseline=BASELINE_MB)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
