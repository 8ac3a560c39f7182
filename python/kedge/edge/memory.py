# SPDX-License-Identifier: Apache-2.0
"""Keeps the agent small: gives back what need not be resident.

The store's mapped pages, the code that only starting needed (decisions 0082 and 0144), and the
allocator's free pages. The kernel brings back what is used again.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import TYPE_CHECKING

from kedge.runtime import release_code

if TYPE_CHECKING:
    from kedge.store import Store

FIRST_SECONDS = 3.0
PERIOD_SECONDS = 10.0


async def keep_small(store: Store) -> None:
    """Trims now and then, until cancelled."""
    await asyncio.sleep(FIRST_SECONDS)
    trim = _allocator_trim()
    while True:
        store.trim()
        release_code()
        if trim is not None:
            trim(0)
        await asyncio.sleep(PERIOD_SECONDS)


def _allocator_trim() -> ctypes._NamedFuncPointer | None:
    """Glibc's ``malloc_trim``; other C libraries have none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
