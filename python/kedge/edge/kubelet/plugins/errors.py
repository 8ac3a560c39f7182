# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with plugins."""

from __future__ import annotations

from typing import ClassVar

from kedge.errors import KedgeError

DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, UNAVAILABLE = 4, 5, 12, 14


class PluginCallError(KedgeError):
    """A plugin refused, failed, is away or did not answer in time.

    Args:
        code: the gRPC code.
        message: the plugin's own words.
    """

    reason: ClassVar[str] = "PluginCallFailed"

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class PluginRefusedError(KedgeError):
    """A plugin cannot be registered: its version, name or socket is not what is wanted."""

    reason: ClassVar[str] = "PluginRefused"
