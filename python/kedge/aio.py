# SPDX-License-Identifier: Apache-2.0
"""What asyncio lacks: batches from Rust, keyed queues, backoff, and tasks that cannot get lost.

Rust never calls into Python. A Rust inbox has a descriptor that is readable while something waits
(``fileno``) and gives batches (``drain``); ``batches`` is the only bridge between that and a loop.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Inbox(Protocol[T]):
    """A queue filled by Rust threads."""

    def fileno(self) -> int:
        """The descriptor that is readable while something waits."""

    def drain(self, limit: int) -> list[T]:
        """Up to ``limit`` items, in order; empty when nothing waits."""


async def batches(inbox: Inbox[T], limit: int = 256) -> AsyncIterator[list[T]]:
    """Yields what an inbox holds, a batch at a time, until the caller stops.

    Args:
        inbox: the Rust side; it must outlive the iteration.
        limit: the most items in one batch.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptor = inbox.fileno()
    loop.add_reader(descriptor, ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            while batch := inbox.drain(limit):
                yield batch
                await asyncio.sleep(0)
    finally:
        loop.remove_reader(descriptor)


class Backoff:
    """Full-jitter exponential backoff (Exponential Backoff And Jitter, AWS architecture blog, 2015).

    Args:
        base_seconds: the first ceiling.
        cap_seconds: the largest ceiling.
        rng: where randomness comes from; tests pass their own.
    """

    def __init__(
        self,
        base_seconds: float = 0.5,
        cap_seconds: float = 30.0,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._base = base_seconds
        self._cap = cap_seconds
        self._rng = rng
        self.attempts = 0

    def reset(self) -> None:
        """Starts again from the first ceiling."""
        self.attempts = 0

    def next_seconds(self) -> float:
        """The next wait, in seconds, between zero and the present ceiling."""
        ceiling = min(self._cap, self._base * 2.0 ** min(self.attempts, 32))
        self.attempts += 1
        return self._rng() * ceiling


class KeyedQueue(Generic[K]):
    """Work by key: a key waits at most once, and is never worked on twice at a time.

    A key added while it is being worked on is worked on again afterwards (the client-go work queue).
    """

    def __init__(self) -> None:
        self._waiting: deque[K] = deque()
        self._queued: set[K] = set()
        self._active: set[K] = set()
        self._wake = asyncio.Event()
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: K) -> None:
        """Makes ``key`` due now."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._queued:
            return
        self._queued.add(key)
        if key not in self._active:
            self._waiting.append(key)
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Makes ``key`` due in ``seconds``, or earlier if something else does."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self.add, key)

    async def get(self) -> K:
        """The next key; call ``done`` with it when its work has ended."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        key = self._waiting.popleft()
        self._queued.discard(key)
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """Ends the work on ``key``; it comes back if it was added meanwhile."""
        self._active.discard(key)
        if key in self._queued:
            self._waiting.append(key)
            self._wake.set()

    async def work(
        self,
        handler: Callable[[K], Awaitable[None]],
        *,
        workers: int,
        failed: Callable[[K, Exception], None],
    ) -> None:
        """Runs ``handler`` for keys as they fall due, ``workers`` at a time, until cancelled.

        Args:
            handler: does the work of one key.
            workers: how many keys at once.
            failed: told of a handler's exception; typically logs and calls ``add_after``.
        """
        ending = False

        async def worker() -> None:
            while not ending:
                key = await self.get()
                try:
                    await handler(key)
                except Exception as error:
                    failed(key, error)
                finally:
                    self.done(key)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
            try:
                await asyncio.Event().wait()
            finally:
                # a handler whose own group fails while it is cancelled tells of that failure alone
                ending = True


async def wait_at_most(event: asyncio.Event, seconds: float | None) -> None:
    """Waits for an event, but no longer than that; with None as long as it takes.

    Python 3.11's ``asyncio.wait_for`` may lose a cancellation that meets the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def run(*components: Coroutine[None, None, None]) -> None:
    """Runs components together: the first failure cancels the rest, cancelling stops them all."""
    async with asyncio.TaskGroup() as group:
        for component in components:
            group.create_task(component)


async def beside(component: Coroutine[None, None, None], work: Awaitable[T]) -> T:
    """What ``work`` gives, with a component running until then; raises the first error of either."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(component)
            try:
                return await work
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
