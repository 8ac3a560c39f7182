# SPDX-License-Identifier: Apache-2.0
"""Volumes given back to their drivers: unpublished for a pod, unstaged after the last one.

All of it from the records on disk: the objects may have gone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kedge import faults
from kedge.edge.kubelet.csi.drivers import not_registered
from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.csi.drivers import Driver
    from kedge.edge.kubelet.csi.shared import Shared
    from kedge.edge.kubelet.csi.state import Record

_log = logging.getLogger(__name__)


class Removal:
    """Gives volumes back.

    Args:
        shared: drivers and records.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def unpublish(self, record: Record) -> None:
        """Takes a volume from a pod, and from the node if no other pod has it; its lock is held.

        Raises:
            VolumeError: its driver did not let go.
        """
        driver = self._shared.drivers.get(record.driver)
        try:
            if driver is not None:
                target = {"volume_id": record.handle, "target_path": str(record.target)}
                await self._shared.call(driver, "NodeUnpublishVolume", target)
                if __debug__:
                    faults.point("csi.unpublished")
            elif self._shared.is_mounted(record):
                # after a reboot nothing is mounted, and nothing is to be asked of a driver that is gone
                raise not_registered(record.driver)
            if record.is_staged:
                users = self._shared.layout.users(record.driver, record.handle)
                if all(one.directory == record.directory for one in users):
                    await self._unstage(record, driver)
            if self._shared.is_mounted(record):
                raise VolumeError(f"still mounted after unpublishing: {record.target}")
            self._shared.records.forget(record.directory)
        except OSError as error:
            raise VolumeError(f"cannot remove {record.directory}: {error}") from error

    async def _unstage(self, record: Record, driver: Driver | None) -> None:
        path = self._shared.layout.staging(record.driver, record.handle)
        if not path.parent.exists():
            return
        if driver is not None:
            request = {"volume_id": record.handle, "staging_target_path": str(path)}
            await self._shared.call(driver, "NodeUnstageVolume", request)
        elif self._shared.mounter.below(path.parent):
            raise not_registered(record.driver)
        self._shared.staged.discard((record.driver, record.handle))
        if __debug__:
            faults.point("csi.unstaged")
        self._shared.records.forget(path.parent)

    async def sweep(self, driver: Driver) -> None:
        """Unstages what a crash left staged for nobody; asked when its driver comes."""
        self._shared.staged = {one for one in self._shared.staged if one[0] != driver.name}
        for record in self._shared.layout.all_staged(driver.name):
            async with self._shared.lock(record.driver, record.handle):
                if self._shared.layout.users(record.driver, record.handle):
                    continue
                try:
                    await self._unstage(record, driver)
                except (VolumeError, OSError) as error:
                    _log.warning("volume %s stays staged: %s", record.handle, error)
