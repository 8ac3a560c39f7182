# SPDX-License-Identifier: Apache-2.0
"""Volumes made from objects: rendered by ``payloads``, swapped in by ``swap``, all in one tmpfs of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge import faults
from kedge.edge.kubelet.volumes import payloads, swap
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import Prepared, Request, plain_name
from kedge.edge.kubelet.volumes.trees import Mounter, remove_all, unmount_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kedge.edge.kubelet.container.environment import Place

KINDS = ("configMap", "secret", "downwardAPI", "projected")
NODE_MEMORY_BYTES = 64 << 20


class ObjectFiles:
    """The source of configMap, secret, downwardAPI and projected volumes.

    Args:
        memory: where the node's tmpfs is, or is to be.
        place: what the downward API knows of the node, asked each time.
        mounter: mounts and unmounts.
    """

    def __init__(self, memory: Path, place: Callable[[], Place], mounter: Mounter) -> None:
        self._memory = memory
        self._place = place
        self._mounter = mounter
        self._has_memory = False

    async def prepare(self, request: Request) -> Prepared:
        """The directory with the volume's files."""
        return Prepared(str(self._write(request)))

    def refresh(self, request: Request) -> None:
        """Swaps changed files in."""
        self._write(request)

    async def remove(self, uid: str) -> None:
        """Removes a pod's files."""
        remove_all(self._mounter, self._memory / plain_name(uid))

    def left_over(self) -> list[str]:
        """The pods that have files."""
        try:
            return [one.name for one in self._memory.iterdir()]
        except FileNotFoundError:
            return []

    def close(self) -> None:
        """Takes the node's tmpfs away, unless a pod has volumes in it; none may come any more.

        Raises:
            VolumeError: it cannot be unmounted or removed.
        """
        self._has_memory = False
        try:
            if not self._memory.exists() or any(self._memory.iterdir()):
                return
            unmount_below(self._mounter, self._memory)
            self._memory.rmdir()
        except OSError as error:
            raise VolumeError(f"cannot remove {self._memory}: {error.strerror}") from error

    def _write(self, request: Request) -> Path:
        pod = request.pod
        volume = {"name": request.name, request.kind: request.source}
        payload = payloads.render(pod, volume, request.objects, self._place())
        self._ensure_memory()
        directory = self._memory / plain_name(pod["metadata"]["uid"]) / plain_name(request.name)
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            if __debug__:
                faults.point("volume.directory.made")
            swap.write(directory, payload, payloads.owner_group(pod))
        except OSError as error:
            raise VolumeError(f"cannot write {directory}: {error.strerror}") from error
        return directory

    def _ensure_memory(self) -> None:
        if self._has_memory:
            return
        self._memory.mkdir(mode=0o711, parents=True, exist_ok=True)
        if str(self._memory.resolve()) not in self._mounter.below(self._memory):
            self._mounter.tmpfs(self._memory, NODE_MEMORY_BYTES, 0o711)
            if __debug__:
                faults.point("volume.node_memory.mounted")
        self._has_memory = True
