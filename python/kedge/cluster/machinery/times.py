# SPDX-License-Identifier: Apache-2.0
"""Times as the API writes them, and as decisions compare them: seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds_of(text: str | None) -> float:
    """The epoch seconds of an RFC 3339 time; 0 when there is none or it cannot be read."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def text_of(seconds: float) -> str:
    """The ``metav1.Time`` form (whole seconds, UTC) of epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_text_of(seconds: float) -> str:
    """The ``metav1.MicroTime`` form of epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
