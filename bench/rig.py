# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: the flags, the printed line, the JSON file.

A benchmark builds one ``Bench``, calls ``figure`` for each number it measured and ends with
``finish``. Baselines are figures of ``shared/reference/baselines.md``, measured on a machine of the
same kind, or measured in the same run where the benchmark can.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).resolve().parent.parent

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: what it is, its unit, the goal, and what stands beside it."""

    name: str
    value: float
    unit: str
    goal: float | None
    better: Better
    baseline: float | None

    def reached(self) -> bool:
        """Whether the goal holds; a figure without a goal always does."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal

    def line(self) -> str:
        """``name value unit``, then the goal and the baseline."""
        parts = [f"{self.name} {_number(self.value)} {self.unit}"]
        if self.goal is not None:
            parts.append(f"goal {_number(self.goal)}{'' if self.reached() else ' MISSED'}")
        if self.baseline is not None:
            parts.append(f"baseline {_number(self.baseline)}")
        return "   ".join(parts)


class Bench:
    """One benchmark run.

    Args:
        name: the benchmark's file name without its ending.
        argv: the command line; taken from the process when not given.
        options: a function that adds the benchmark's own flags to the parser.
    """

    def __init__(self, name: str, argv: list[str] | None = None, options=None) -> None:
        parser = argparse.ArgumentParser(prog=f"bench/{name}.py")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
        if options is not None:
            options(parser)
        self.args = parser.parse_args(argv)
        self.name = name
        self.figures: list[Figure] = []

    def figure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        goal: float | None = None,
        better: Better = "lower",
        baseline: float | None = None,
    ) -> None:
        """Records and prints one measured number."""
        figure = Figure(name, value, unit, goal, better, baseline)
        self.figures.append(figure)
        print(figure.line(), flush=True)

    def finish(self) -> int:
        """Writes the JSON file when asked; the exit status, which is 0 also for a missed goal."""
        if self.args.json is not None:
            document = {
                "bench": self.name,
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "commit": commit(),
                "machine": machine(),
                "figures": [asdict(figure) for figure in self.figures],
            }
            self.args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        return 0


def commit() -> str:
    """The commit that was measured, with ``-dirty`` when the tree differs from it."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    changes = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", ":!bench/results"],
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def machine() -> dict[str, object]:
    """What the figures depend on, without names of machines."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie; nearest rank."""
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, round(share * len(ordered) + 0.5) - 1))
    return ordered[rank]


def rss_bytes(pid: int) -> int:
    """VmRSS of a process, in bytes.

    Raises:
        ProcessLookupError: it is gone.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit("rig.py is a library; run one of the benchmarks beside it")
