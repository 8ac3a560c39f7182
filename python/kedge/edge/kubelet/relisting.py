# SPDX-License-Identifier: Apache-2.0
"""Follows the runtime: the workers take over what it has different from what they know.

It is asked when it tells of a change, and now and then in any case: every second where it tells nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from kedge.aio import wait_at_most
from kedge.edge.kubelet import labels
from kedge.edge.kubelet.node.counts import relists
from kedge.edge.kubelet.pod import observe
from kedge.edge.kubelet.pod.state import ContainerState
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kedge.edge.kubelet.inventory import Containers, Inventory, Sandboxes
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker
    from kedge.edge.runtime import ContainerInfo, SandboxInfo

RELIST_SECONDS = 1.0
RELIST_WITH_EVENTS_SECONDS = 30.0
RETRY_SECONDS = 0.2
APART_SECONDS = 0.2
"""Between two comparisons, however many events there are: a start of many pods makes hundreds."""

_log = logging.getLogger(__name__)


class Relisting:
    """Compares the runtime's lists with the workers.

    Args:
        tools: the kubelet's shared parts.
        inventory: asks the runtime for what is this node's.
        workers: of all pods, by UID.
        compared: told after each comparison which sandboxes there are.

    Attributes:
        error: why the runtime does not answer; empty while it does.
    """

    def __init__(
        self,
        tools: Tools,
        inventory: Inventory,
        workers: Mapping[str, PodWorker],
        compared: Callable[[list[SandboxInfo]], Awaitable[None]],
    ) -> None:
        self._tools = tools
        self._inventory = inventory
        self._workers = workers
        self._compared = compared
        self._wake = asyncio.Event()
        self.error = ""

    def soon(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def first(self) -> tuple[Sandboxes, Containers]:
        """What the runtime has, as soon as it answers."""
        while True:
            try:
                found = await self._inventory.take()
            except RuntimeFailure as error:
                self._failed(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.error = ""
                return found

    async def run(self) -> None:
        """Compares until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._follow_events())

    async def _follow(self) -> None:
        while True:
            period = (
                RELIST_WITH_EVENTS_SECONDS if self._tools.runtime.has_events else RELIST_SECONDS
            )
            await wait_at_most(self._wake, period)
            self._wake.clear()
            began = relists.begin(time.monotonic())
            try:
                await self._compare()
            except RuntimeFailure as error:
                self._failed(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if self.error:
                    _log.info("the container runtime is back")
                self.error = ""
                relists.succeed(time.monotonic() - began, self._tools.clock())
            await asyncio.sleep(APART_SECONDS)

    async def _follow_events(self) -> None:
        async for _ in self._tools.runtime.events():
            self._wake.set()

    def _failed(self, error: RuntimeFailure) -> None:
        if not self.error:
            _log.error("the container runtime does not answer: %s", error)
        self.error = str(error) or type(error).__name__

    async def _compare(self) -> None:
        """Takes over what the runtime has different from what the workers know.

        What was made while the lists were on their way is not in them; so only what was known
        before counts as missing.
        """
        runtime, workers = self._tools.runtime, list(self._workers.values())
        known_sandboxes = {one: worker for worker in workers for one in worker.sandboxes}
        known_containers = {one: worker for worker in workers for one in worker.containers}
        sandboxes = [one for one in await runtime.list_sandboxes() if self._inventory.is_ours(one)]
        containers = await runtime.list_containers()
        for one in sandboxes:
            await self._compare_sandbox(one)
        for missing in known_sandboxes.keys() - {one.id for one in sandboxes}:
            known_sandboxes[missing].observe_sandbox(None, missing)
        for info in containers:
            await self._compare_container(info)
        for missing in known_containers.keys() - {one.id for one in containers}:
            known_containers[missing].observe_container(None, missing)
        await self._compared(sandboxes)

    async def _compare_sandbox(self, info: SandboxInfo) -> None:
        worker = self._workers.get(info.labels[labels.POD_UID])
        if worker is None:
            return
        known = worker.sandboxes.get(info.id)
        if (known is None and worker.busy) or (known is not None and known.ready == info.ready):
            return
        worker.observe_sandbox(await self._inventory.sandbox(info), info.id)

    async def _compare_container(self, info: ContainerInfo) -> None:
        worker = self._workers.get(info.labels.get(labels.POD_UID, ""))
        if worker is None or info.sandbox_id not in worker.sandboxes:
            return
        known = worker.containers.get(info.id)
        name = info.labels.get(labels.CONTAINER_NAME, "")
        if (known is None and name in worker.busy) or (
            known is not None and known.state == ContainerState(info.state)
        ):
            return
        if known is None:
            status = await self._tools.runtime.container_status(info.id)
            if status is not None:
                worker.observe_container(observe.container(info, status), info.id)
            return
        if name not in worker.busy:
            await worker.refresh_container(info.id)
