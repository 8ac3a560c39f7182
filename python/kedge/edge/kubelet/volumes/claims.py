# SPDX-License-Identifier: Apache-2.0
"""Volumes of claims: the claim's PersistentVolume, asked of the source of its kind.

All from the node's store, so that a pod gets its volumes offline and after a reboot too. What is local to
a node (``local``) is used where it is; ``kedge.io/local-path`` ones are directories that this node makes.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.api import selectors
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.volumes import ownership, payloads
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.local_path import PROVISIONER, LocalPath
from kedge.edge.kubelet.volumes.sources import Prepared, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.kubelet.volumes.sources import Source

_ABOUT = frozenset((
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
    "storageClassName", "volumeAttributesClassName", "volumeMode",
))  # fmt: skip
"""Fields of a PersistentVolume's spec that are not its source."""


class Claims:
    """The source of persistentVolumeClaim and ephemeral volumes.

    Args:
        source: the source of a kind of volume.
        node: this node's name.
        local_path: makes the directories of the built-in provisioner's volumes.
    """

    def __init__(self, source: Callable[[str], Source], node: str, local_path: LocalPath) -> None:
        self._source = source
        self._node = node
        self._local_path = local_path

    async def prepare(self, request: Request) -> Prepared:
        """The claim's volume, ready to be used."""
        inner = self._inner(request)
        if inner.kind == "local" and inner.persistent_volume is not None:
            prepared = self._local(request, inner.persistent_volume, read_only=inner.read_only)
        else:
            prepared = await self._source(inner.kind).prepare(inner)
        return prepared._replace(read_only=prepared.read_only or inner.read_only)

    def refresh(self, request: Request) -> None:
        """A driver's volume may have grown; else nothing: what is in it is the pod's."""
        try:
            inner = self._inner(request)
        except VolumeError:
            return  # a running pod keeps what it has
        if inner.kind == "csi":
            self._source(inner.kind).refresh(inner)

    def _inner(self, request: Request) -> Request:
        """What is asked of the source of the claim's volume."""
        claim, volume = self._bound(request)
        spec = volume["spec"]
        kind = next((name for name in spec if name not in _ABOUT), "")
        return request._replace(
            kind=kind,
            source=spec.get(kind) or {},
            persistent_volume=volume,
            read_only=bool(request.source.get("readOnly")),
            claim=claim,
        )

    async def remove(self, uid: str) -> None:
        """Nothing: the data outlives the pod, and what was mounted is its source's to unmount."""

    def _bound(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """The claim, and the PersistentVolume that it is bound to.

        Raises:
            VolumeError: there is none, or it is not this claim's, or it is not for this node.
        """
        metadata = request.pod["metadata"]
        name = claim_name(request)
        claim = request.objects.get(
            ObjectKey("", "persistentvolumeclaims", metadata["namespace"], name)
        )
        if claim is None:
            raise VolumeError(f'persistentvolumeclaim "{name}" not found')
        if request.kind == "ephemeral" and not _is_owned(claim, metadata["uid"]):
            pod = metadata["name"]
            raise VolumeError(f'PVC "{name}" was not created for pod "{pod}" (pod is not owner)')
        volume_name = (claim.get("spec") or {}).get("volumeName") or ""
        if not volume_name or (claim.get("status") or {}).get("phase") != "Bound":
            raise VolumeError(f'persistentvolumeclaim "{name}" is not bound')
        volume = request.objects.get(ObjectKey("", "persistentvolumes", "", volume_name))
        if volume is None:
            raise VolumeError(f'persistentvolume "{volume_name}" not found')
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("uid") != claim["metadata"]["uid"]:
            raise VolumeError(f'persistentvolume "{volume_name}" is not bound to claim "{name}"')
        self._check_node(request, volume)
        return claim, volume

    def _check_node(self, request: Request, volume: dict[str, Any]) -> None:
        required = (volume["spec"].get("nodeAffinity") or {}).get("required")
        node = request.objects.get(ObjectKey("", "nodes", "", self._node))
        if required is None or node is None:
            return
        labels = node["metadata"].get("labels") or {}
        terms = required.get("nodeSelectorTerms") or []
        if not any(selectors.matches(term, labels) for term in terms):
            name = volume["metadata"]["name"]
            raise VolumeError(
                f"no matching NodeSelectorTerms: persistentvolume {name} is not for this node"
            )

    def _local(self, request: Request, volume: dict[str, Any], *, read_only: bool) -> Prepared:
        name, spec = volume["metadata"]["name"], volume["spec"]
        annotations = volume["metadata"].get("annotations") or {}
        is_block = spec.get("volumeMode") == "Block"
        if annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER:
            path = str(self._local_path.directory(name))
        else:
            path = spec["local"].get("path") or ""
            _check_path(path, is_block=is_block)
        group = payloads.owner_group(request.pod)
        if group is not None and not is_block and not read_only:
            ownership.give(path, group, ownership.policy(request.pod))
        return Prepared(path, is_block=is_block)


def claim_name(request: Request) -> str:
    """The name of the claim behind a volume."""
    if request.kind == "ephemeral":
        return f"{request.pod['metadata']['name']}-{request.name}"
    return str(request.source.get("claimName") or "")


def _is_owned(claim: dict[str, Any], uid: str) -> bool:
    owners = claim["metadata"].get("ownerReferences") or []
    return any(one.get("uid") == uid and one.get("controller") for one in owners)


def _check_path(path: str, *, is_block: bool) -> None:
    if not path.startswith("/") or ".." in path.split("/"):
        raise VolumeError(f"local path: wanted an absolute path without '..': {path!r}")
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise VolumeError(f'path "{path}" does not exist: {error.strerror}') from error
    if is_block and not stat.S_ISBLK(mode):
        raise VolumeError(f"volumeMode Block: wanted a block device: {path}")
    if not is_block and not stat.S_ISDIR(mode):
        raise VolumeError(
            f"local volume: wanted a directory: {path} (mount a device's file system and give that directory)"
        )


def make(
    source: Callable[[str], Source], node: str, directory: Path, local_path: LocalPath | None
) -> Claims:
    """The source, for the first pod that has a claim."""
    return Claims(source, node, local_path or LocalPath(directory))
