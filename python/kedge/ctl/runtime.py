# SPDX-License-Identifier: Apache-2.0
"""A container runtime for the length of one command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from kedge.aio import beside
from kedge.edge.runtime.cri import CriRuntime
from kedge.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ANSWER_SECONDS = 10.0

T = TypeVar("T")


def ask(endpoint: str, work: Callable[[CriRuntime], Awaitable[T]]) -> T:
    """Does something with the runtime, once it has told its version.

    Raises:
        KedgeError: it refused.
        OSError: it is not there.
        TimeoutError: it does not answer.
    """
    return asyncio.run(_connected(endpoint, work))


async def _connected(endpoint: str, work: Callable[[CriRuntime], Awaitable[T]]) -> T:
    tokio = Runtime(1)
    try:
        cri = CriRuntime(tokio, endpoint)
        return await beside(cri.run(), _answered(cri, work))
    finally:
        tokio.close()


async def _answered(cri: CriRuntime, work: Callable[[CriRuntime], Awaitable[T]]) -> T:
    async with asyncio.timeout(ANSWER_SECONDS):
        await cri.version()
    return await work(cri)
