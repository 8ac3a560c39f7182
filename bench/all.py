# SPDX-License-Identifier: Apache-2.0
"""Runs every benchmark, one after another, and keeps what they measured in bench/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_A_BENCHMARK = {"__init__", "all", "rig"}


def main() -> int:
    failed = []
    for path in sorted(HERE.glob("*.py")):
        if path.stem in NOT_A_BENCHMARK:
            continue
        print(f"== {path.stem}", flush=True)
        result = HERE / "results" / f"{path.stem}.json"
        done = subprocess.run([sys.executable, str(path), "--json", str(result)], check=False)
        if done.returncode != 0:
            failed.append(path.stem)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
