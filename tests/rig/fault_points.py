# SPDX-License-Identifier: Apache-2.0
"""The fault points of the agent, found in its source (``kedge.faults`` says what they are)."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.rig.processes import REPOSITORY

SOURCE = REPOSITORY / "python" / "kedge"


def names() -> list[str]:
    """Every point's name, sorted."""
    return sorted(name for name, _ in found())


def found() -> list[tuple[str, str]]:
    """Every point's name, with the file and line of its use.

    Raises:
        ValueError: a point is not written as it must be.
    """
    points = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if "faults.point(" in text:
            points += _in(path, ast.parse(text))
    return points


def _in(path: Path, tree: ast.Module) -> list[tuple[str, str]]:
    guarded = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "__debug__"
        for node in ast.walk(branch)
    }
    points = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "faults.point"):
            continue
        where = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        name = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            raise ValueError(f"{where}: wanted one literal name: {ast.unparse(node)}")  # noqa: TRY004 - its form is wrong
        if id(node) not in guarded:
            raise ValueError(f"{where}: wanted `if __debug__:` around it: {ast.unparse(node)}")
        points.append((name.value, where))
    return points
