# SPDX-License-Identifier: Apache-2.0
"""Removing a pod's cgroup: the runtime makes it as a parent and leaves it behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LEVELS = ("", "/burstable", "/besteffort")
"""Where below ``kubepods`` a pod's cgroup may be; the first is Guaranteed."""


def remove(parent: str, root: Path = ROOT) -> None:
    """Removes the pod's empty cgroup from every hierarchy; systemd removes its own slices."""
    if not parent or parent.endswith(".slice"):
        return
    relative = parent.lstrip("/")
    candidates = [root / relative, *(one / relative for one in root.glob("*") if one.is_dir())]
    for path in candidates:
        if path.is_dir():
            for child in path.glob("*/"):
                with contextlib.suppress(OSError):
                    child.rmdir()
            with contextlib.suppress(OSError):
                path.rmdir()
