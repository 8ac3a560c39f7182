# SPDX-License-Identifier: Apache-2.0
"""How a command fails: one line with the cause, one with the fix."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818 - what a person reads, not a defect
    """A command cannot do what was asked.

    Args:
        reason: one word for programs, as in ``PortInUse``.
        message: the cause.
        hint: the fix; empty when there is none to offer.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint

    def text(self) -> str:
        """What is printed."""
        lines = [f"error: {self} [{self.reason}]"]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)
