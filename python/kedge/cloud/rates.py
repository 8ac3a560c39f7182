# SPDX-License-Identifier: Apache-2.0
"""How often each address may ask, or a thing be said: a token bucket for each, and a limit on how many are remembered."""

from __future__ import annotations

from collections import OrderedDict

MAX_ADDRESSES = 10_000


class Rates:
    """Token buckets by address.

    Args:
        per_minute: how many a minute, which is also how many at once.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, address: str, now: float) -> bool:
        """Whether ``address`` may go on; counts this attempt if so."""
        tokens, since = self._buckets.pop(address, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - since) * self._per_minute / 60)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed
