# SPDX-License-Identifier: Apache-2.0
"""Fault points: there for tests, not there in what a node runs."""

from __future__ import annotations

import dis
import re
import subprocess
import sys
from types import CodeType

from kedge import faults
from tests.rig import fault_points

NAME = re.compile(r"[a-z_]+(\.[a-z_]+)+")


def test_every_point_has_a_name_of_its_own_and_is_left_out_by_the_optimizer() -> None:
    found = fault_points.found()
    names = [name for name, _ in found]
    assert len(names) > 30
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not NAME.fullmatch(name)] == []


def test_the_bytecode_that_a_node_runs_passes_no_point() -> None:
    left = []
    for path in sorted((fault_points.SOURCE / "edge").rglob("*.py")):
        code = compile(path.read_text(), str(path), "exec", optimize=2)
        left += [
            f"{path.name}: {one}" for one in words(code) if isinstance(one, str) and one in POINTS
        ]
    assert left == []


POINTS = set(fault_points.names())


def words(code: CodeType) -> list[object]:
    """What the instructions of a piece of bytecode, and of what is in it, speak of."""
    found = [one.argval for one in dis.get_instructions(code)]
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found += words(inner)
    return found


def test_nothing_in_the_product_arms_a_point() -> None:
    for path in fault_points.SOURCE.rglob("*.py"):
        assert "faults.reached" not in path.read_text(), path
    assert faults.reached is None
    faults.point("nobody.listens")


def test_the_test_build_refuses_to_run_without_its_points() -> None:
    command = [sys.executable, "-O", "-m", "tests.rig.faulty_agent", "any.point", "{}", "/dev/null"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PYTHONPATH": f"{fault_points.REPOSITORY / 'python'}:{fault_points.REPOSITORY}"},
    )
    assert done.returncode == 1
    assert "fault points are not compiled in" in done.stderr
