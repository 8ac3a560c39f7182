# SPDX-License-Identifier: Apache-2.0
"""Image volumes: pulled as a container's image is, and mounted by the runtime, if it is one that can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import Prepared, Request
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from kedge.edge.kubelet.images.images import Images
    from kedge.edge.runtime import ContainerRuntime

FIRST_VERSIONS = {"containerd": (2, 1), "cri-o": (1, 31)}
"""The first version of each runtime that mounts images when CRI asks for it."""


class ImageVolumes:
    """The source of image volumes.

    Args:
        runtime: mounts them.
        pulled: makes sure that images are on the node.
    """

    def __init__(self, runtime: ContainerRuntime, pulled: Images) -> None:
        self._runtime = runtime
        self._images = pulled

    async def prepare(self, request: Request) -> Prepared:
        """The image, which is on the node."""
        reference = str(request.source.get("reference") or "")
        if not reference:
            raise VolumeError("image: wanted a reference")
        try:
            version = await self._runtime.version()
            if not can_mount(version.name, version.version):
                wanted = " or ".join(
                    f"{name} {major}.{minor}" for name, (major, minor) in FIRST_VERSIONS.items()
                )
                raise VolumeError(
                    f"image volumes are not supported by this node's runtime: wanted {wanted} or newer: "
                    f"{version.name} {version.version}"
                )
            wish: dict[str, Any] = {
                "image": reference,
                "imagePullPolicy": request.source.get("pullPolicy") or "",
            }
            found = await self._images.present(wish)
            if found is None:
                auths = self._images.auths(request.pod, request.objects, reference)
                found = (await self._images.pull(wish, auths)).image
        except RuntimeFailure as error:
            raise VolumeError(str(error)) from error
        return Prepared("", read_only=True, image=found.id)

    def refresh(self, request: Request) -> None:
        """Nothing: an image does not change."""

    async def remove(self, uid: str) -> None:
        """Nothing: the runtime unmounts it with the container."""


def can_mount(name: str, version: str) -> bool:
    """Whether a runtime of this name and version mounts images."""
    first = FIRST_VERSIONS.get(name)
    parts = version.removeprefix("v").split(".")
    if first is None or len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return False
    return (int(parts[0]), int(parts[1])) >= first
