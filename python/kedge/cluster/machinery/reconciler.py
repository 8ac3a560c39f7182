# SPDX-License-Identifier: Apache-2.0
"""Works keys off: once the caches hold our own writes, one at a time per key, failures later again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from kedge.aio import Backoff, KeyedQueue
from kedge.errors import Conflict, KedgeError, NotFound

if TYPE_CHECKING:
    from kedge.cluster.machinery.informer import Informer

K = TypeVar("K", bound=Hashable)

_log = logging.getLogger(__name__)


class Reconciler(Generic[K]):
    """A queue of keys and the handler that brings each nearer to what is wanted.

    Args:
        name: for logs.
        handler: reconciles one key; what it returns, if positive, is the seconds until it wants
            the key again.
        informer: read by the handler.
        workers: keys at a time.
    """

    def __init__(
        self,
        name: str,
        handler: Callable[[K], Awaitable[float | None]],
        informer: Informer,
        *,
        workers: int = 4,
    ) -> None:
        self._name = name
        self._handler = handler
        self._informer = informer
        self._workers = workers
        self._queue: KeyedQueue[K] = KeyedQueue()
        self._backoffs: dict[K, Backoff] = {}

    def add(self, key: K) -> None:
        """Makes ``key`` due."""
        self._queue.add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Makes ``key`` due in ``seconds``."""
        self._queue.add_after(key, seconds)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._informer.synced()
        await self._queue.work(self._reconcile, workers=self._workers, failed=self._failed)

    async def _reconcile(self, key: K) -> None:
        await self._informer.caught_up()
        again = await self._handler(key)
        self._backoffs.pop(key, None)
        if again is not None and again > 0:
            self._queue.add_after(key, again)

    def _failed(self, key: K, error: Exception) -> None:
        backoff = self._backoffs.setdefault(key, Backoff(base_seconds=0.05, cap_seconds=60.0))
        seconds = backoff.next_seconds()
        if not isinstance(error, Conflict | NotFound):
            known = isinstance(error, KedgeError)
            _log.warning(
                "%s: reconciling failed, again later key=%s seconds=%.1f error=%s",
                self._name,
                key,
                seconds,
                error,
                exc_info=None if known else error,
            )
        self._queue.add_after(key, seconds)


async def together(works: Iterable[Awaitable[None]]) -> None:
    """Runs all to their ends; the first failure is raised then, and being cancelled whatever failed.

    A task group that fails while it is cancelled would tell of the failure alone.
    """
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
