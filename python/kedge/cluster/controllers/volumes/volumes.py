# SPDX-License-Identifier: Apache-2.0
"""One PersistentVolume: available, bound, or released and given back as its policy says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import binding, events

if TYPE_CHECKING:
    from kedge.cluster.controllers.volumes.local_path import LocalPath
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.storage import Claim, Volume

PROTECTION = "kubernetes.io/pv-protection"


class PersistentVolumes:
    """What is done for one volume at a time.

    Args:
        client: writes.
        informer: reads.
        recorder: events.
        local_path: removes volumes of the built-in class.
    """

    def __init__(
        self, client: Client, informer: Informer, recorder: Recorder, local_path: LocalPath
    ) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._local_path = local_path

    async def reconcile(self, name: str) -> None:
        """Brings one volume's phase and finalizers up to what it and its claim are."""
        volume = self._informer.volumes.get("", name)
        if volume is None:
            return
        if volume.deleted:
            await self._let_go(volume)
            return
        if PROTECTION not in volume.finalizers:
            await self._set_finalizers(volume, [*volume.finalizers, PROTECTION])
            return
        if volume.claim is None or not volume.claim.uid:
            await self._phase(volume, "Available")
            return
        claim = self._claim_of(volume)
        if claim is None:
            await self._release(volume)
        elif claim.volume_name == volume.name:
            await self._phase(volume, "Bound")
        elif claim.volume_name:
            await self._release(volume)

    def _claim_of(self, volume: Volume) -> Claim | None:
        if volume.claim is None:
            return None
        found = self._informer.claims.get(volume.claim.namespace, volume.claim.name)
        if found is not None and found.uid == volume.claim.uid:
            return found
        return None

    async def _release(self, volume: Volume) -> None:
        """Its claim is gone: the data stays, or goes with the volume."""
        await self._phase(volume, "Released")
        if volume.reclaim == "Delete" and volume.provisioned_by == binding.LOCAL_PATH:
            await self._client.delete(_key(volume), uid=volume.uid)
        elif volume.reclaim == "Delete" and not volume.provisioned_by:
            why = "error getting deleter volume plugin for volume"
            text = f'{why} "{volume.name}": no volume plugin matched'
            self._say(volume, "VolumeFailedDelete", text)
            await self._phase(volume, "Failed", message=text)
        elif volume.reclaim == "Recycle":
            text = "Recycle is not supported: the volume stays as it is; use Retain or Delete"
            self._say(volume, "VolumeFailedRecycle", text)

    async def _let_go(self, volume: Volume) -> None:
        """A deleted volume goes once no claim is bound to it and its node has removed the data."""
        left = list(volume.finalizers)
        claim = self._claim_of(volume)
        if PROTECTION in left and not (claim is not None and claim.volume_name == volume.name):
            left.remove(PROTECTION)
        if PROTECTION not in left and self._local_path.is_removed(volume):
            left = [one for one in left if one != binding.LOCAL_PATH]
        if left != list(volume.finalizers):
            await self._set_finalizers(volume, left)

    async def _set_finalizers(self, volume: Volume, finalizers: list[str]) -> None:
        metadata = {
            "uid": volume.uid,
            "resourceVersion": str(volume.version),
            "finalizers": finalizers,
        }
        await self._client.patch(_key(volume), {"metadata": metadata})

    async def _phase(self, volume: Volume, phase: str, message: str = "") -> None:
        if volume.phase == phase or (phase == "Released" and volume.phase == "Failed"):
            return
        status: dict[str, Any] = {"phase": phase, "message": message or None}
        await self._client.patch_status(_key(volume), status, uid=volume.uid)

    def _say(self, volume: Volume, reason: str, text: str) -> None:
        about = events.Reference("PersistentVolume", "v1", "", volume.name, volume.uid)
        self._recorder.record(about, events.WARNING, reason, text)


def _key(volume: Volume) -> ObjectKey:
    return ObjectKey("", "persistentvolumes", "", volume.name)
