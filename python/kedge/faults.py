# SPDX-License-Identifier: Apache-2.0
"""Fault points: named steps at which a test kills the agent, to prove that it can be killed there.

A point is written ``if __debug__: faults.point("pod.sandbox.created")``, so the compiler leaves it out
of the agent that runs with ``-OO``, which is how ``python -m kedge.edge`` runs: no instruction of it is
left. No setting, flag or environment variable of kedge arms a point; only a program of the
tests does (``tests/rig/faulty_agent.py``), by setting ``reached`` in its own process. Names are literals,
``what.step``, so that ``tests/rig/fault_points.py`` finds all of them in the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

reached: Callable[[str], None] | None = None
"""What is told of each point that is passed; nothing but a test sets it."""


def point(name: str) -> None:
    """This step has been reached."""
    if reached is not None:
        reached(name)
