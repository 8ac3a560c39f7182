# SPDX-License-Identifier: Apache-2.0
"""What stays for as long as kedge runs loads next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "python"
HEAVY = {"asyncio", "ssl", "typer", "rich", "orjson", "yaml", "msgspec", "logging", "subprocess"}


def loaded(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return set(done.stdout.split())


def test_the_supervisor_loads_nothing_heavy_and_nothing_of_kedge():
    modules = loaded("kedge.ctl.supervisor")
    assert not modules & HEAVY
    mine = {name for name in modules if name.startswith("kedge")}
    assert mine == {"kedge", "kedge.ctl", "kedge.ctl.supervisor"}


def test_the_command_line_loads_no_command_before_it_is_run():
    modules = loaded("kedge.ctl.__main__")
    assert not modules & {"kedge._core", "kedge.kube", "kedge.cloud", "asyncio", "lmdb"}
