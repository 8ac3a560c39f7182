# SPDX-License-Identifier: Apache-2.0
"""Writes in batches that double, so that what fails for all fails for few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.machinery.reconciler import together

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

LARGEST = 500


async def slowly(calls: Sequence[Callable[[], Coroutine[None, None, None]]]) -> None:
    """Makes one call, then two at once, then four; none after a batch with a failure.

    The first failure of the last batch is raised.
    """
    begun, size = 0, 1
    while begun < len(calls):
        await together(call() for call in calls[begun : begun + size])
        begun += size
        size = min(size * 2, LARGEST)
