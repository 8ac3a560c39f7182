# SPDX-License-Identifier: Apache-2.0
"""Logging set-up for a process, and loggers that know which object they speak of."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from kedge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class _Object(logging.LoggerAdapter[logging.Logger]):
    """Puts the object's name before each message."""

    def process(
        self, msg: str, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        return f"[{(self.extra or {}).get('object')}] {msg}", kwargs


def of(logger: logging.Logger, name: object) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose lines start with the object's name, as in ``[default/web-0] image pulled``."""
    return _Object(logger, {"object": name})


def setup(level: str = "INFO") -> None:
    """Sends lines to standard error: time in UTC, level, logger, message.

    Args:
        level: one of ``LEVELS``, in any case.

    Raises:
        ConfigError: another word.
    """
    if level.upper() not in LEVELS:
        raise ConfigError(f"log level: got: {level!r}, wanted one of: {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
