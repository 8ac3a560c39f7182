# SPDX-License-Identifier: Apache-2.0
"""The built-in provisioner: a volume is a directory on the node that the scheduler chose for the claim.

The node makes the directory when a pod first uses it. To have it removed, the volume's finalizer stays
until the node has confirmed it: the names of deleted volumes are written into an annotation of the Node,
which is in the node's view also when it has been away; the node removes the directory and says so among
``volumesInUse`` of its status. So nothing is left behind on a node that was offline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import binding, events
from kedge.errors import AlreadyExists

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Node
    from kedge.cluster.machinery.storage import Claim, StorageClass, Volume

SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
TO_REMOVE = "volumes.kedge.io/remove"
REMOVED = "kedge.io/local-path-removed/"
"""How a node says that it has removed a volume: this, and the volume's name."""
PROTECTION = "kubernetes.io/pv-protection"
DIRECTORY = "/var/lib/kedge/local-volumes"
"""What a volume's path says when its node has not told where it keeps them."""
MODES = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


class LocalPath:
    """Makes volumes on nodes, and has nodes remove them.

    Args:
        client: writes.
        informer: reads.
        recorder: events.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder

    async def provision(self, claim: Claim, found: StorageClass) -> None:
        """Makes a volume for a claim on its selected node; without one, says why not."""
        node = self._informer.nodes.get("", claim.selected_node)
        why = _impossible(claim, node) if claim.selected_node else _needs_node(found)
        if not why and node is not None:
            given = binding.given(self._informer.volumes)
            free = binding.room(node, given.get(binding.hostname(node), 0))
            if claim.size > free:
                why = _no_room(node, claim.size, free)
        if why or node is None:
            self._say(
                claim, events.WARNING, "ProvisioningFailed", f"failed to provision volume: {why}"
            )
            if claim.selected_node:
                # as external provisioners do: the scheduler may choose another node
                await self._patch_claim(claim, {"annotations": {SELECTED_NODE: None}})
            return
        text = f'provisioner is provisioning volume for claim "{claim.namespace}/{claim.name}"'
        self._say(claim, events.NORMAL, "Provisioning", text)
        name = f"pvc-{claim.uid}"
        stored = self._client.get(ObjectKey("", "persistentvolumeclaims", *claim.key)) or {}
        try:
            await self._client.create(
                ObjectKey("", "persistentvolumes", "", name),
                volume_for(claim, stored.get("spec") or {}, found, node),
            )
        except AlreadyExists:
            return
        self._say(
            claim,
            events.NORMAL,
            "ProvisioningSucceeded",
            f"Successfully provisioned volume {name}",
        )

    async def grow(self, claim: Claim, volume: Volume) -> None:
        """Gives a bound claim the larger size that it asks for, if its node has the room; else says why not.

        A size is a promise that others are counted against: on the node there is nothing to do.
        """
        host = binding.host_of(volume)
        node = self._node(host)
        more = claim.size - volume.size
        if more > 0:
            given = binding.given(self._informer.volumes)
            free = binding.room(node, given.get(host, 0)) if node is not None else 0
            if node is None or more > free:
                why = f'node "{host}" not found' if node is None else _no_room(node, more, free)
                self._say(claim, events.WARNING, "VolumeResizeFailed", f"resize volume: {why}")
                return
        key = ObjectKey("", "persistentvolumeclaims", *claim.key)
        stored = self._client.get(key)
        if stored is None:
            return
        capacity = {"storage": stored["spec"]["resources"]["requests"]["storage"]}
        if more > 0:
            patch = {"metadata": {"uid": volume.uid}, "spec": {"capacity": capacity}}
            await self._client.patch(ObjectKey("", "persistentvolumes", "", volume.name), patch)
        await self._client.patch_status(key, {"capacity": capacity}, uid=claim.uid)
        self._say(claim, events.NORMAL, "VolumeResizeSuccessful", "Resize volume succeeded")

    def is_removed(self, volume: Volume) -> bool:
        """Whether a deleted volume's data is gone, or its node is and nobody can remove it any more."""
        host = binding.host_of(volume)
        if not host or binding.LOCAL_PATH not in volume.finalizers:
            return True
        node = self._node(host)
        return node is None or f"{REMOVED}{volume.name}" in node.volumes_in_use

    async def tell(self, host: str) -> None:
        """Writes which volumes a node is to remove, and forgets those that are gone."""
        node = self._node(host)
        if node is None:
            return
        names = sorted(
            volume.name
            for volume in self._informer.volumes
            if volume.deleted
            and binding.host_of(volume) == host
            and PROTECTION not in volume.finalizers
        )
        wanted = ",".join(names)
        if wanted != node.volumes_to_remove:
            patch = {"metadata": {"uid": node.uid, "annotations": {TO_REMOVE: wanted or None}}}
            await self._client.patch(ObjectKey("", "nodes", "", node.name), patch)

    def _node(self, host: str) -> Node | None:
        known = self._informer.nodes.get("", host)
        if known is not None and binding.hostname(known) == host:
            return known
        return next((one for one in self._informer.nodes if binding.hostname(one) == host), None)

    async def _patch_claim(self, claim: Claim, metadata: dict[str, Any]) -> None:
        key = ObjectKey("", "persistentvolumeclaims", *claim.key)
        await self._client.patch(key, {"metadata": {"uid": claim.uid, **metadata}})

    def _say(self, claim: Claim, kind: str, reason: str, text: str) -> None:
        reference = events.Reference(
            "PersistentVolumeClaim", "v1", claim.namespace, claim.name, claim.uid
        )
        self._recorder.record(reference, kind, reason, text)


def _needs_node(found: StorageClass) -> str:
    return (
        f'a local volume needs a node: volumeBindingMode of StorageClass "{found.name}" must be '
        "WaitForFirstConsumer"
    )


def _no_room(node: Node, wanted: int, free: int) -> str:
    return (
        f'node "{node.name}" did not have enough free storage: '
        f"wanted {wanted} bytes, has {max(free, 0)}"
    )


def _impossible(claim: Claim, node: Node | None) -> str:
    if node is None:
        return f'node "{claim.selected_node}" not found'
    if claim.is_block:
        return "volumeMode Block is not supported by kedge.io/local-path"
    other = set(claim.modes) - MODES
    if other:
        return f"accessModes: wanted ReadWriteOnce or ReadWriteOncePod: {', '.join(sorted(other))}"
    if claim.selector is not None:
        return "claim.Spec.Selector is not supported"
    return ""


def volume_for(
    claim: Claim, spec: dict[str, Any], found: StorageClass, node: Node
) -> dict[str, Any]:
    """The PersistentVolume to make for a claim. Pure.

    Args:
        claim: its record.
        spec: its spec, for the words that it uses.
        found: its class.
        node: where.
    """
    name = f"pvc-{claim.uid}"
    directory = node.volumes_directory or DIRECTORY
    here = {
        "key": binding.HOSTNAME,
        "operator": "In",
        "values": [binding.hostname(node)],
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {
                PROVISIONED_BY: binding.LOCAL_PATH,
                BOUND_BY_CONTROLLER: "yes",
            },
            "finalizers": [PROTECTION, binding.LOCAL_PATH],
        },
        "spec": {
            "accessModes": spec.get("accessModes") or list(claim.modes),
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace,
                "name": claim.name,
                "uid": claim.uid,
            },
            "local": {"path": f"{directory}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "persistentVolumeReclaimPolicy": found.reclaim,
            "storageClassName": found.name,
            "volumeMode": "Filesystem",
            **({"mountOptions": list(found.mount_options)} if found.mount_options else {}),
        },
    }
