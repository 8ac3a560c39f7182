# SPDX-License-Identifier: Apache-2.0
"""What volumes take and have, as their drivers say; asked only when somebody asks the node.

Several volumes at once, each for a bounded time: a driver that hangs costs an answer its own figures.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.csi.drivers import STATS
from kedge.edge.kubelet.plugins.errors import PluginCallError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.csi.drivers import Driver
    from kedge.edge.kubelet.csi.shared import Shared
    from kedge.edge.kubelet.csi.state import Record
    from kedge.edge.kubelet.volumes.sources import Figures

SECONDS = 3.0
"""For which a volume may keep an answer waiting, its turn with the driver included."""
AT_ONCE = 16
"""Questions of all who ask; what others wait for because a driver hangs is left out as well."""
_UNITS = {1: "bytes", 2: "inodes"}
_log = logging.getLogger(__name__)


async def ask(
    shared: Shared, records: Iterable[Record], limit: asyncio.Semaphore
) -> dict[str, Figures]:
    """The figures of volumes, by the names of their records; who does not say is left out."""

    async def one(record: Record, driver: Driver) -> None:
        request = {
            "volume_id": record.handle,
            "volume_path": str(record.target),
            "staging_target_path": shared.layout.staging_of(record),
        }
        try:
            async with asyncio.timeout(SECONDS), limit:
                answer = await shared.client.call(
                    driver.endpoint, "NodeGetVolumeStats", request, SECONDS
                )
        except (PluginCallError, TimeoutError) as error:
            _log.debug("volume %s cannot be asked: %s", record.handle, error)
        else:
            found[record.directory.name] = figures(answer["usage"])

    found: dict[str, Figures] = {}
    asked = []
    for record in records:
        driver = shared.drivers.get(record.driver)
        if driver is not None and STATS in driver.capabilities:
            asked.append(one(record, driver))
    await asyncio.gather(*asked)
    return found


def figures(parts: list[dict[str, Any]]) -> Figures:
    """A driver's answer in our words; negative numbers are none."""
    found: Figures = {}
    for part in parts:
        unit = _UNITS.get(part["unit"])
        for name in ("available", "total", "used"):
            if unit and part[name] >= 0:
                found[f"{unit}_{name}"] = part[name]
    return found
