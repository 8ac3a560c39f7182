# SPDX-License-Identifier: Apache-2.0
"""Instances of containerd whose test run was killed: found again, and removed if they are ours.

An instance is written down when it starts and struck out when it has stopped. What is written down
and whose owner (process id and start time) is gone was left behind. Only what belongs to the
directory that was written down is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTRY = Path(tempfile.gettempdir()) / f"kedge-rig.{os.getuid()}"


def note(directory: Path, mark: str) -> None:
    """Writes an instance of this process down."""
    REGISTRY.mkdir(mode=0o700, exist_ok=True)
    entry = {"directory": str(directory), "pid": os.getpid(), "started": started(os.getpid())}
    (REGISTRY / mark).write_text(json.dumps(entry))


def strike(mark: str) -> None:
    """Strikes an instance out: nothing of it is left."""
    (REGISTRY / mark).unlink(missing_ok=True)


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time looks for leftovers: test runs have several that start together."""
    with REGISTRY.with_name(f"{REGISTRY.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def left_behind() -> list[Path]:
    """Directories of instances whose owner is gone; entries that cannot be read are struck out."""
    found = []
    for path in REGISTRY.glob("*"):
        try:
            entry = json.loads(path.read_text())
            directory, owner = Path(entry["directory"]), (entry["pid"], entry["started"])
        except (OSError, ValueError, KeyError):
            path.unlink(missing_ok=True)
            continue
        if started(owner[0]) != owner[1]:
            if (directory / "containerd.toml").exists():
                found.append(directory)
            else:
                path.unlink(missing_ok=True)
    return found


def started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def processes_of(program: str, word: str) -> list[int]:
    """Processes of a program, by the beginning of its name, with exactly this argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            Path(words[0].decode(errors="replace")).name.startswith(program)
            and word.encode() in words
        ):
            found.append(int(path.name))
    return found
