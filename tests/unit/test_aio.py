# SPDX-License-Identifier: Apache-2.0
"""A component beside some work: it ends with the work, the error of either is raised. Waits that end."""

from __future__ import annotations

import asyncio

import pytest

from kedge.aio import KeyedQueue, beside, wait_at_most


class Component:
    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.has_ended = failure, False

    async def run(self) -> None:
        try:
            if self.failure is not None:
                raise self.failure
            await asyncio.Event().wait()
        finally:
            self.has_ended = True


async def test_work_gives_its_result_and_ends_the_component() -> None:
    component = Component()

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await beside(component.run(), work()) == 7
    assert component.has_ended


async def test_the_error_of_the_work_is_raised_as_it_is() -> None:
    component = Component()

    async def work() -> None:
        await asyncio.sleep(0)
        raise KeyError("work")

    with pytest.raises(KeyError, match="work"):
        await beside(component.run(), work())
    assert component.has_ended


async def test_a_component_that_fails_ends_the_work() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(OSError, match="broken"):
        await beside(Component(OSError("broken")).run(), work())


async def test_a_wait_ends_with_the_event_or_with_its_time() -> None:
    event = asyncio.Event()
    await wait_at_most(event, 0.01)
    assert not event.is_set()
    waiting = asyncio.get_running_loop().create_task(wait_at_most(event, None))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    event.set()
    await waiting


async def test_a_wait_that_is_cancelled_as_its_event_comes_is_cancelled() -> None:
    event = asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(wait_at_most(event, 30))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_workers_end_when_cancelled_also_while_a_group_of_theirs_fails():
    queue: KeyedQueue[str] = KeyedQueue()
    begun = asyncio.Event()
    failures: list[Exception] = []

    async def fails_when_cancelled() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise RuntimeError

    async def handler(_: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails_when_cancelled())

    queue.add("a")
    work = asyncio.ensure_future(
        queue.work(handler, workers=1, failed=lambda _, error: failures.append(error))
    )
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, 5)
    assert len(failures) == 1
