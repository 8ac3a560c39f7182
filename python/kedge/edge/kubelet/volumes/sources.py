# SPDX-License-Identifier: Apache-2.0
"""What a kind of volume is to the rest: a source that is asked to prepare, refresh and remove.

``Volumes`` looks a pod's volumes up by kind and asks the source of each. Preparing may take its time and
may be cancelled at any await when the pod is to go, and is asked again after a crash: it must find
what is there already and leave right things alone. Removing is asked until it succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.pod.state import Pod


class Prepared(NamedTuple):
    """A volume that containers can have.

    Attributes:
        path: on the node: a directory or file to bind, or a device.
        read_only: nobody may write, whatever a mount says.
        is_block: it is a device for ``volumeDevices``, not something to mount.
        image: the runtime mounts this image itself; there is no path.
        told_as: its driver alone can say what it takes (``Volumes.usage``): the name by which.
    """

    path: str
    read_only: bool = False
    is_block: bool = False
    image: str = ""
    told_as: str = ""


Figures = dict[str, int]
"""What a volume takes and has: ``bytes_total``, ``bytes_available``, ``bytes_used``, the same of inodes."""


class Request(NamedTuple):
    """One volume of one pod to be prepared.

    Attributes:
        pod: whose it is.
        name: the volume's name in the pod.
        kind: the name of its source, such as ``csi``.
        source: what the source says: of the pod's volume, or of the PersistentVolume's spec.
        objects: the node's view.
        persistent_volume: the PersistentVolume object when the volume is a claim's.
        read_only: the claim's use of it is read-only.
        claim: the claim, when the volume is one's.
    """

    pod: Pod
    name: str
    kind: str
    source: dict[str, Any]
    objects: Objects
    persistent_volume: dict[str, Any] | None = None
    read_only: bool = False
    claim: dict[str, Any] | None = None


class Source(Protocol):
    """Gives pods the volumes of one or more kinds."""

    async def prepare(self, request: Request) -> Prepared:
        """The volume, ready to be used; the same again when repeated.

        Raises:
            VolumeError: it cannot be had now; the worker tries again.
        """

    def refresh(self, request: Request) -> None:
        """Brings the files of a running pod up to its objects; most kinds have nothing to do."""

    async def remove(self, uid: str) -> None:
        """Takes away what this kind has of a pod that has ended; nothing happens if there is none.

        Raises:
            VolumeError: something is left; it is asked again.
        """


def plain_name(name: str) -> str:
    """A name that is one part of a path.

    Raises:
        VolumeError: it is not.
    """
    if not name or "/" in name or name.startswith("."):
        raise VolumeError(f"wanted a plain name: {name!r}")
    return name
