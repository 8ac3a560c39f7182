# SPDX-License-Identifier: Apache-2.0
"""Mounts below a directory of ours: none may outlive a test."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

TOOLS = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def mounts_below(directory: Path) -> list[str]:
    """Mount points below ``directory``, the deepest first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1] for line in lines]
    return sorted((one for one in points if one.startswith(f"{directory}/")), key=len, reverse=True)


def unmount_below(directory: Path) -> None:
    """Unmounts all of them; a few times, because one may hide another."""
    for _ in range(3):
        points = mounts_below(directory)
        if not points:
            return
        for point in points:
            command = ["umount", "--lazy", point]
            subprocess.run(
                command, capture_output=True, check=False, env={**os.environ, "PATH": TOOLS}
            )
        time.sleep(0.1)
