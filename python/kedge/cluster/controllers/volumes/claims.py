# SPDX-License-Identifier: Apache-2.0
"""One claim: bound to a volume that fits, or to one made for it; lost when its volume is; kept while used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import binding, events

if TYPE_CHECKING:
    from kedge.cluster.controllers.volumes.local_path import LocalPath
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key
    from kedge.cluster.machinery.storage import Claim, StorageClass, Volume

PROTECTION = "kubernetes.io/pvc-protection"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONERS = (
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
)


class Claims:
    """What is done for one claim at a time.

    Args:
        client: writes.
        informer: reads.
        recorder: events.
        local_path: makes volumes of the built-in class.
    """

    def __init__(
        self, client: Client, informer: Informer, recorder: Recorder, local_path: LocalPath
    ) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._local_path = local_path

    async def reconcile(self, key: Key) -> None:
        """Brings one claim nearer to being bound, or lets it go."""
        claim = self._informer.claims.get(*key)
        if claim is None:
            return
        if await self._protect(claim):
            return
        if claim.is_bound:
            await self._check(claim)
        elif claim.volume_name:
            await self._bind_named(claim)
        else:
            await self._find(claim)

    async def _protect(self, claim: Claim) -> bool:
        """Keeps a deleted claim while a pod on a node uses it; whether that is all there is to do."""
        has = PROTECTION in claim.finalizers
        if not claim.deleted:
            if not has:
                await self._patch(claim, {"metadata": _finalizers(claim, add=True)})
            return not has
        if has and not any(pod.node for pod in self._informer.pods.using(claim.key)):
            await self._patch(claim, {"metadata": _finalizers(claim, add=False)})
        return True

    # not bound yet

    async def _find(self, claim: Claim) -> None:
        classes = self._informer.classes
        found = binding.class_of(claim, classes)
        if claim.class_name is None and found is not None:
            await self._patch(claim, {"spec": {"storageClassName": found.name}})
            return
        is_delayed = found is not None and found.is_delayed and not claim.selected_node
        volumes = list(self._informer.volumes)
        if is_delayed:
            volumes = [one for one in volumes if binding.is_meant_for(one, claim)]
        fitting = binding.candidates(claim, volumes)
        if fitting:
            await self._bind(claim, fitting[0])
            return
        await self._phase(claim, "Pending")
        if is_delayed:
            self._say_waiting(claim)
        elif claim.class_name:
            await self._provision(claim, found)
        else:
            text = "no persistent volumes available for this claim and no storage class is set"
            self._say(claim, "FailedBinding", text)

    def _say_waiting(self, claim: Claim) -> None:
        pods = sorted(one.name for one in self._informer.pods.using(claim.key) if not one.finished)
        if pods:
            text = f"waiting for pod {','.join(pods)} to be scheduled"
            self._say(claim, "WaitForPodScheduled", text)
            return
        text = "waiting for first consumer to be created before binding"
        self._say(claim, "WaitForFirstConsumer", text)

    async def _provision(self, claim: Claim, found: StorageClass | None) -> None:
        if found is None:
            text = f'storageclass.storage.k8s.io "{claim.class_name}" not found'
            self._say(claim, "ProvisioningFailed", text, kind=events.WARNING)
        elif found.provisioner == binding.LOCAL_PATH:
            await self._local_path.provision(claim, found)
        elif found.provisioner == binding.NO_PROVISIONER:
            text = "no volume plugin matched name: kubernetes.io/no-provisioner"
            self._say(claim, "ProvisioningFailed", text, kind=events.WARNING)
        else:
            names = dict.fromkeys(PROVISIONERS, found.provisioner)
            await self._patch(claim, {"metadata": {"annotations": names}})
            text = (
                "Waiting for a volume to be created either by the external provisioner "
                f"'{found.provisioner}' or manually by the system administrator. If volume creation is "
                "delayed, please verify that the provisioner is running and correctly registered."
            )
            self._say(claim, "ExternalProvisioning", text)

    async def _bind_named(self, claim: Claim) -> None:
        volume = self._informer.volumes.get("", claim.volume_name)
        if volume is None:
            await self._phase(claim, "Pending")
        elif volume.claim is None:
            why = binding.mismatch(claim, volume)
            if why:
                text = f'Cannot bind to requested volume "{volume.name}": {why}'
                self._say(claim, "VolumeMismatch", text, kind=events.WARNING)
                await self._phase(claim, "Pending")
            else:
                await self._bind(claim, volume)
        elif binding.is_meant_for(volume, claim):
            await self._bind(claim, volume)
        else:
            await self._phase(claim, "Pending")
            text = f'volume "{volume.name}" already bound to a different claim.'
            self._say(claim, "FailedBinding", text, kind=events.WARNING)

    # bound already

    async def _check(self, claim: Claim) -> None:
        """A bound claim stays bound, unless its volume is gone or somebody else's."""
        if not claim.volume_name:
            text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", text)
            return
        volume = self._informer.volumes.get("", claim.volume_name)
        if volume is None:
            text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", text)
        elif volume.claim is None or binding.is_meant_for(volume, claim):
            await self._bind(claim, volume)
            await self._grow(claim, volume)
        else:
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", text)

    async def _grow(self, claim: Claim, volume: Volume) -> None:
        """A bound claim that asks for more than it has."""
        if claim.phase != "Bound" or not 0 < claim.given < claim.size:
            return
        if binding.host_of(volume):
            await self._local_path.grow(claim, volume)
        elif volume.size < claim.size:
            text = "waiting for an external controller to expand this PVC"
            self._say(claim, "ExternalExpanding", text)

    async def _lose(self, claim: Claim, reason: str, text: str) -> None:
        if claim.phase != "Lost":
            self._say(claim, reason, text, kind=events.WARNING)
            await self._client.patch_status(_key(claim), {"phase": "Lost"}, uid=claim.uid)

    # writing

    async def _bind(self, claim: Claim, volume: Volume) -> None:
        """Volume to claim, then claim to volume: a crash between leaves a volume that waits for its claim."""
        if volume.claim is None or volume.claim.uid != claim.uid:
            reference = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace,
                "name": claim.name,
                "uid": claim.uid,
            }
            patch: dict[str, Any] = {
                "metadata": {"uid": volume.uid},
                "spec": {"claimRef": reference},
            }
            if volume.claim is None:
                patch["metadata"]["annotations"] = {BOUND_BY_CONTROLLER: "yes"}
            await self._client.patch(ObjectKey("", "persistentvolumes", "", volume.name), patch)
        if not claim.is_bound or not claim.volume_name:
            notes = {BIND_COMPLETED: "yes"}
            if not claim.volume_name:
                notes[BOUND_BY_CONTROLLER] = "yes"
            await self._patch(
                claim,
                {"metadata": {"annotations": notes}, "spec": {"volumeName": volume.name}},
            )
        if claim.phase != "Bound":
            stored = self._client.get(ObjectKey("", "persistentvolumes", "", volume.name)) or {}
            spec = stored.get("spec") or {}
            status = {
                "phase": "Bound",
                "accessModes": spec.get("accessModes"),
                "capacity": spec.get("capacity"),
            }
            await self._client.patch_status(_key(claim), status, uid=claim.uid)

    async def _phase(self, claim: Claim, phase: str) -> None:
        if claim.phase != phase:
            await self._client.patch_status(_key(claim), {"phase": phase}, uid=claim.uid)

    async def _patch(self, claim: Claim, patch: dict[str, Any]) -> None:
        metadata = {"uid": claim.uid, **patch.get("metadata", {})}
        await self._client.patch(_key(claim), {**patch, "metadata": metadata})

    def _say(self, claim: Claim, reason: str, text: str, *, kind: str = events.NORMAL) -> None:
        self._recorder.record(about(claim), kind, reason, text)


def about(claim: Claim) -> events.Reference:
    """A claim as the object of an event."""
    return events.Reference("PersistentVolumeClaim", "v1", claim.namespace, claim.name, claim.uid)


def _key(claim: Claim) -> ObjectKey:
    return ObjectKey("", "persistentvolumeclaims", *claim.key)


def _finalizers(claim: Claim, *, add: bool) -> dict[str, Any]:
    kept = [one for one in claim.finalizers if one != PROTECTION]
    return {
        "finalizers": [*kept, PROTECTION] if add else kept,
        "resourceVersion": str(claim.version),
    }
