# SPDX-License-Identifier: Apache-2.0
"""A component beside some work: it ends with the work, and the error of either is what is raised."""

from __future__ import annotations

import asyncio

import pytest

from kedge.aio import beside


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
