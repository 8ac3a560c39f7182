# SPDX-License-Identifier: Apache-2.0
"""Volumes that have grown: their drivers are told, then the cloud that the claim has more.

The driver's controller has grown the volume already and says that the node's part is left: by the claim's
condition ``FileSystemResizePending``. The record beside the mount has the size that the driver here was last
told of, so that it is told once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.csi import requests
from kedge.edge.kubelet.csi.drivers import EXPAND
from kedge.edge.kubelet.resources import resources
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.payloads import owner_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.kubelet.csi.drivers import Driver
    from kedge.edge.kubelet.csi.shared import Shared
    from kedge.edge.kubelet.csi.state import Record
    from kedge.edge.kubelet.volumes.sources import Request

_PENDING = "FileSystemResizePending"
_ON_NODE = frozenset({"NodeResizePending", "NodeResizeInProgress"})


def given(request: Request, volume: requests.Volume) -> int:
    """Bytes that the claim has while the node's part of growing is left; else the whole volume's."""
    status = (request.claim or {}).get("status") or {}
    has = (status.get("capacity") or {}).get("storage")
    waits = (status.get("allocatedResourceStatuses") or {}).get("storage") in _ON_NODE or any(
        one.get("type") == _PENDING and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )
    return min(volume.bytes, resources.whole(has)) if waits and has else volume.bytes


class Growth:
    """Follows the sizes of volumes.

    Args:
        shared: drivers and records.
        tell: takes what pods' Events are to say.
        report: takes a claim and its new size.
    """

    def __init__(
        self,
        shared: Shared,
        tell: Callable[[dict[str, Any], str, str], None],
        report: Callable[[dict[str, Any], str], None],
    ) -> None:
        self._shared = shared
        self._tell = tell
        self._report = report

    @staticmethod
    def is_due(request: Request, volume: requests.Volume, known: Record) -> bool:
        """Whether a volume has grown, or the cloud does not know yet that it has."""
        return 0 < known.bytes < volume.bytes or given(request, volume) < volume.bytes

    async def follow(self, request: Request, volume: requests.Volume, known: Record) -> bool:
        """Does what is due of one published volume; False when it is to be tried again."""
        driver = self._shared.drivers.get(volume.driver)
        if driver is None or not self.is_due(request, volume, known):
            return True
        if 0 < known.bytes < volume.bytes:
            if EXPAND in driver.capabilities and not await self._expand(
                request, volume, known, driver
            ):
                return False
            self._shared.records.write(known._replace(bytes=volume.bytes))
        if request.claim is not None and given(request, volume) < volume.bytes:
            spec = (request.persistent_volume or {})["spec"]
            self._report(request.claim, spec["capacity"]["storage"])
        return True

    async def _expand(
        self, request: Request, volume: requests.Volume, known: Record, driver: Driver
    ) -> bool:
        name = f'volume "{volume.name}"'
        try:
            call = {
                "volume_id": volume.handle,
                "volume_path": str(known.target),
                "staging_target_path": self._shared.layout.staging_of(known),
                "capacity_range": {"required_bytes": volume.bytes},
                "volume_capability": requests.capability(volume, driver, owner_group(request.pod)),
                "secrets": requests.secrets(request, "nodeExpandSecretRef"),
            }
            await self._shared.call(driver, "NodeExpandVolume", call)
        except VolumeError as error:
            text = f"NodeExpandVolume failed for {name} : {error}"
            self._tell(request.pod, "VolumeResizeFailed", text)
            return False
        text = f"NodeExpandVolume succeeded for {name}"
        self._tell(request.pod, "FileSystemResizeSuccessful", text)
        return True
