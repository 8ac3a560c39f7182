# SPDX-License-Identifier: Apache-2.0
"""What having volumes and giving them back share: drivers, records, and whose turn a volume is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kedge.edge.kubelet.plugins.errors import PluginCallError
from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.csi.drivers import Driver, Drivers
    from kedge.edge.kubelet.csi.in_use import Records
    from kedge.edge.kubelet.csi.state import Layout, Record
    from kedge.edge.kubelet.plugins.face import PluginClient
    from kedge.edge.kubelet.volumes.trees import Mounter

CALL_SECONDS = 120.0
"""As the kubelet gives a driver."""
Volume = tuple[str, str]
"""A driver's name, and its name for a volume."""


@dataclass(slots=True)
class Shared:
    """It.

    Attributes:
        client: calls drivers.
        drivers: those that are registered.
        layout: where things are.
        records: what there is.
        mounter: looks at what is mounted.
        staged: what this agent has staged.
    """

    client: PluginClient
    drivers: Drivers
    layout: Layout
    records: Records
    mounter: Mounter
    staged: set[Volume] = field(default_factory=set)
    _locks: WeakValueDictionary[Volume, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def call(self, driver: Driver, method: str, request: dict[str, Any]) -> None:
        """Asks a driver for something that has no answer but that it is done.

        Raises:
            VolumeError: it is not.
        """
        try:
            await self.client.call(driver.endpoint, method, request, CALL_SECONDS)
        except PluginCallError as error:
            raise VolumeError(f"rpc error from {driver.name}: {error}") from error

    def is_mounted(self, record: Record) -> bool:
        """Whether something is mounted where the volume of a record is published."""
        return bool(self.mounter.below(record.target))

    def lock(self, driver: str, handle: str) -> asyncio.Lock:
        """Held by who works on a volume."""
        return self._locks.setdefault((driver, handle), asyncio.Lock())
