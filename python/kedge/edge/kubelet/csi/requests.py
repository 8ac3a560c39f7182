# SPDX-License-Identifier: Apache-2.0
"""What of a volume goes into calls to its driver, in the kubelet's words; pure but for reading objects."""

from __future__ import annotations

import json
from binascii import a2b_base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.csi.drivers import MOUNT_GROUP, MULTI_WRITER, Driver
from kedge.edge.kubelet.volumes import payloads
from kedge.edge.kubelet.volumes.errors import AttachError, VolumeError
from kedge.edge.kubelet.volumes.payloads import owner_group

try:
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    from _sha256 import sha256  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.volumes.sources import Request

_INFO = "csi.storage.k8s.io/"
_MODES = {"ReadWriteOnce": 1, "ReadOnlyMany": 3, "ReadWriteMany": 5, "ReadWriteOncePod": 1}
_MODES_WITH_WRITERS = _MODES | {"ReadWriteOnce": 7, "ReadWriteOncePod": 6}
_ONE_WRITER = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})
STORAGE = "storage.k8s.io"
MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as its driver knows it.

    Attributes:
        driver: the driver's name.
        handle: the driver's name for the volume.
        name: the PersistentVolume's, or the pod's for one written in the pod.
        is_inline: it is written in the pod.
        is_block: it is a device.
        read_only: it is only read.
        fs_type: the file system, if one is wanted.
        modes: the access modes; the first is what the driver is told.
        options: for mounting.
        attributes: the driver's own.
        bytes: its size; 0 if not known.
    """

    driver: str
    handle: str
    name: str
    is_inline: bool = False
    is_block: bool = False
    read_only: bool = False
    fs_type: str = ""
    modes: tuple[str, ...] = ("ReadWriteOnce",)
    options: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    bytes: int = 0


def digest(text: str) -> str:
    """As names of directories and attachments have it."""
    return str(sha256(text.encode()).hexdigest())


def volume(request: Request) -> Volume:
    """The volume that is asked for.

    Raises:
        VolumeError: its object lacks something.
    """
    source, persistent = request.source, request.persistent_volume
    driver = source.get("driver") or ""
    attributes = source.get("volumeAttributes") or {}
    if persistent is None:
        uid = request.pod["metadata"]["uid"]
        return Volume(
            driver,
            f"csi-{digest(uid + request.name)}",
            request.name,
            is_inline=True,
            read_only=bool(source.get("readOnly")),
            fs_type=source.get("fsType") or "",
            attributes=attributes,
        )
    from kedge.edge.kubelet.resources import resources  # noqa: PLC0415 - loaded already where pods run

    spec = persistent["spec"]
    size = (spec.get("capacity") or {}).get("storage")
    return Volume(
        driver,
        source.get("volumeHandle") or "",
        persistent["metadata"]["name"],
        is_block=spec.get("volumeMode") == "Block",
        read_only=request.read_only or bool(source.get("readOnly")),
        fs_type=source.get("fsType") or "",
        modes=tuple(spec.get("accessModes") or ("ReadWriteOnce",)),
        options=tuple(spec.get("mountOptions") or ()),
        attributes=attributes,
        bytes=resources.whole(size) if size else 0,
    )


def capability(one: Volume, driver: Driver, group: int | None) -> dict[str, Any]:
    """The ``VolumeCapability``."""
    modes = _MODES_WITH_WRITERS if MULTI_WRITER in driver.capabilities else _MODES
    found: dict[str, Any] = {"access_mode": {"mode": modes.get(one.modes[0], 1)}}
    if one.is_block:
        found["block"] = {}
    else:
        with_group = group is not None and MOUNT_GROUP in driver.capabilities
        found["mount"] = {
            "fs_type": one.fs_type,
            "mount_flags": list(one.options),
            "volume_mount_group": str(group) if with_group else "",
        }
    return found


def context(request: Request, one: Volume, driver_object: dict[str, Any] | None) -> dict[str, str]:
    """The volume's attributes, with the pod's identity where the driver wants it."""
    found = dict(one.attributes)
    if not ((driver_object or {}).get("spec") or {}).get("podInfoOnMount"):
        return found
    metadata, spec = request.pod["metadata"], request.pod["spec"]
    return found | {
        f"{_INFO}pod.name": metadata["name"],
        f"{_INFO}pod.namespace": metadata["namespace"],
        f"{_INFO}pod.uid": metadata["uid"],
        f"{_INFO}serviceAccount.name": spec.get("serviceAccountName") or "default",
        f"{_INFO}ephemeral": "true" if one.is_inline else "false",
    }


def tokens(request: Request, about: dict[str, Any] | None) -> dict[str, str]:
    """The tokens of the pod's account that the driver wants, under the key that it looks for; or nothing.

    Raises:
        VolumeError: one has not come yet.
    """
    wanted = ((about or {}).get("spec") or {}).get("tokenRequests") or []
    found = {
        one.get("audience") or "": payloads.token(request.pod, one, request.objects)
        for one in wanted[:MAX_TOKENS]
    }
    return {f"{_INFO}serviceAccount.tokens": json.dumps(found)} if found else {}


def wants_secret_tokens(about: dict[str, Any] | None) -> bool:
    """Whether the driver takes tokens among secrets, not in the volume's context."""
    return bool(((about or {}).get("spec") or {}).get("serviceAccountTokenInSecrets"))


def driver_object(objects: Objects, name: str) -> dict[str, Any] | None:
    """The CSIDriver."""
    return objects.get(ObjectKey(STORAGE, "csidrivers", "", name))


def check_lifecycle(one: Volume, found: dict[str, Any] | None) -> None:
    """Whether the driver has volumes of this kind.

    Raises:
        VolumeError: it has not.
    """
    if found is None:
        modes = ["Persistent"]
    else:
        modes = (found.get("spec") or {}).get("volumeLifecycleModes") or ["Persistent"]
    wanted = "Ephemeral" if one.is_inline else "Persistent"
    if wanted not in modes:
        why = "no CSIDriver object" if found is None else f"only supports {modes}"
        raise VolumeError(f'volume mode "{wanted}" not supported by driver {one.driver} ({why})')


def needs_attaching(one: Volume, found: dict[str, Any] | None) -> bool:
    """Whether a volume must be attached to the node first; a driver that says nothing wants it."""
    spec = (found or {}).get("spec") or {}
    return not one.is_inline and spec.get("attachRequired", True) is not False


def in_use_name(driver: str, handle: str) -> str:
    """What a Node's status calls a volume."""
    return f"kubernetes.io/csi/{driver}^{handle}"


def attached(one: Volume, objects: Objects, node: str) -> dict[str, str]:
    """What attaching gave, once the volume is attached and the cloud knows that this node uses it.

    The second is what keeps it attached: a pod that is deleted by force is gone for the cloud while its
    volume is still mounted here.

    Raises:
        AttachError: it is not attached.
    """
    name = f"csi-{digest(one.handle + one.driver + node)}"
    attachment = objects.get(ObjectKey(STORAGE, "volumeattachments", "", name))
    if attachment is None:
        raise AttachError(f"waiting for attach: no VolumeAttachment {name} yet")
    status = attachment.get("status") or {}
    if attachment["metadata"].get("deletionTimestamp"):
        raise AttachError(f"waiting for attach: VolumeAttachment {name} is being deleted")
    if not status.get("attached"):
        error = (status.get("attachError") or {}).get("message") or "not attached yet"
        raise AttachError(f"waiting for attach: VolumeAttachment {name}: {error}")
    known = (objects.get(ObjectKey("", "nodes", "", node)) or {}).get("status") or {}
    if in_use_name(one.driver, one.handle) not in (known.get("volumesInUse") or ()):
        raise AttachError("waiting for attach: the cloud does not know yet that it is in use here")
    metadata: dict[str, str] = status.get("attachmentMetadata") or {}
    return metadata


def secrets(request: Request, field_name: str) -> dict[str, str]:
    """The data of the Secret that a field of the source names; empty without one.

    Raises:
        VolumeError: the Secret is not there, or is no text.
    """
    reference = request.source.get(field_name) or {}
    name = reference.get("name")
    if not name:
        return {}
    namespace = reference.get("namespace") or request.pod["metadata"]["namespace"]
    if request.persistent_volume is None:
        namespace = request.pod["metadata"]["namespace"]
    found = request.objects.get(ObjectKey("", "secrets", namespace, name))
    if found is None:
        raise VolumeError(f'{field_name}: secret "{name}" not found in namespace "{namespace}"')
    try:
        return {key: a2b_base64(value).decode() for key, value in (found.get("data") or {}).items()}
    except ValueError as error:
        raise VolumeError(f'{field_name}: secret "{name}" is not text') from error


def group_to_give(request: Request, one: Volume, driver: Driver, found: Any) -> int | None:
    """The pod's ``fsGroup`` where the node must give the files to it itself."""
    group = owner_group(request.pod)
    if group is None or one.is_block or one.read_only or MOUNT_GROUP in driver.capabilities:
        return None
    policy = ((found or {}).get("spec") or {}).get("fsGroupPolicy") or "ReadWriteOnceWithFSType"
    fits = bool(one.fs_type) and not _ONE_WRITER.isdisjoint(one.modes)
    return group if policy == "File" or (policy == "ReadWriteOnceWithFSType" and fits) else None
