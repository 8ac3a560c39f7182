# SPDX-License-Identifier: Apache-2.0
"""Prepares, refreshes and removes the volumes of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.edge.kubelet import resources
from kedge.edge.kubelet.volumes import host_paths, payloads, swap
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.trees import Mounter, SystemMounter, own, remove_tree, unmount_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kedge.edge.kubelet.environment import Place
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.state import Pod

FROM_OBJECTS = ("configMap", "secret", "downwardAPI", "projected")
NODE_MEMORY_BYTES = 64 << 20
EMPTY_DIR_MODE = 0o777
MAX_VOLUMES = 256


class Volumes:
    """The volumes of all pods on this node.

    Args:
        pods: one directory per pod UID; emptyDirs are below it.
        memory: where the node's tmpfs is, or is to be; it holds what is made from objects.
        place: what the downward API knows of the node, asked each time.
        mounter: mounts and unmounts; tests pass their own.
    """

    def __init__(
        self,
        pods: Path,
        memory: Path,
        place: Callable[[], Place],
        mounter: Mounter | None = None,
    ) -> None:
        self._pods = pods
        self._memory = memory
        self._place = place
        self._mounter = mounter or SystemMounter()
        self._has_memory = False

    def prepare(self, pod: Pod, objects: Objects) -> dict[str, str]:
        """Host paths by volume name; what is there already is brought up to date and kept.

        Raises:
            VolumeError: a volume cannot be had; the message names it and why.
        """
        volumes = pod["spec"].get("volumes") or []
        if len(volumes) > MAX_VOLUMES:
            raise VolumeError(f"wanted at most {MAX_VOLUMES} volumes: {len(volumes)}")
        return {volume["name"]: self._prepare(pod, volume, objects) for volume in volumes}

    def refresh(self, pod: Pod, objects: Objects) -> None:
        """Brings the files of a running pod up to its objects.

        Every volume is tried; the first failure is told afterwards, and its files stay as they are.

        Raises:
            VolumeError: an object is missing or a file cannot be written.
        """
        failures: list[VolumeError] = []
        for volume in pod["spec"].get("volumes") or []:
            if payloads.kind_of(volume) not in FROM_OBJECTS:
                continue
            try:
                self._write(pod, volume, objects)
            except VolumeError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def remove(self, uid: str) -> None:
        """Unmounts and removes all volumes of a pod; nothing happens if there are none.

        Raises:
            VolumeError: something cannot be unmounted or removed.
        """
        for directory in (
            self._pods / _plain_name(uid) / "volumes",
            self._memory / _plain_name(uid),
        ):
            if not directory.exists():
                continue
            unmount_below(self._mounter, directory)
            if __debug__:
                faults.point("volume.unmounted")
            try:
                remove_tree(directory)
            except OSError as error:
                raise VolumeError(f"cannot remove {directory}: {error.strerror}") from error

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

    def _prepare(self, pod: Pod, volume: dict[str, Any], objects: Objects) -> str:
        kind, name = payloads.kind_of(volume), volume["name"]
        try:
            if kind in FROM_OBJECTS:
                return str(self._write(pod, volume, objects))
            if kind == "emptyDir":
                return str(self._empty_dir(pod, volume))
            if kind == "hostPath":
                return host_paths.prepare(volume["hostPath"])
        except VolumeError as error:
            raise VolumeError(f'volume "{name}": {error}') from error
        except OSError as error:
            text = f'volume "{name}": {error.filename}: {error.strerror}'
            raise VolumeError(text) from error
        raise VolumeError(f'volume "{name}": {kind} is not supported on this node')

    def _write(self, pod: Pod, volume: dict[str, Any], objects: Objects) -> Path:
        payload = payloads.render(pod, volume, objects, self._place())
        self._ensure_memory()
        directory = self._memory / _plain_name(pod["metadata"]["uid"]) / _plain_name(volume["name"])
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

    def _empty_dir(self, pod: Pod, volume: dict[str, Any]) -> Path:
        source, uid = volume.get("emptyDir") or {}, _plain_name(pod["metadata"]["uid"])
        directory = (
            self._pods / uid / "volumes" / "kubernetes.io~empty-dir" / _plain_name(volume["name"])
        )
        medium, group = source.get("medium") or "", payloads.owner_group(pod)
        if medium not in ("", "Memory"):
            raise VolumeError(f"emptyDir medium: wanted Memory or none: {medium}")
        is_new = not directory.exists()
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if __debug__:
            faults.point("volume.empty_dir.made")
        if medium and str(directory.resolve()) not in self._mounter.below(directory):
            self._mounter.tmpfs(directory, _size(source), EMPTY_DIR_MODE)
            if __debug__:
                faults.point("volume.empty_dir.mounted")
            is_new = True
        if is_new:
            directory.chmod(EMPTY_DIR_MODE)
            if group is not None:
                own(directory, group)
        return directory


def _size(source: dict[str, Any]) -> int:
    """Bytes of a limit; 0 leaves it to the system, which is half of the memory."""
    try:
        return resources.whole(source["sizeLimit"]) if source.get("sizeLimit") else 0
    except ValueError as error:
        raise VolumeError(f"emptyDir sizeLimit: {error}") from error


def _plain_name(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise VolumeError(f"wanted a plain name: {name!r}")
    return name
