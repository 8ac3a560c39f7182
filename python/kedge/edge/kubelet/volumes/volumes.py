# SPDX-License-Identifier: Apache-2.0
"""Prepares, refreshes and removes the volumes of pods: each by the source of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.volumes import object_files, payloads, sub_paths
from kedge.edge.kubelet.volumes.empty_dirs import EmptyDirs
from kedge.edge.kubelet.volumes.errors import AttachError, VolumeError
from kedge.edge.kubelet.volumes.host_paths import HostPaths
from kedge.edge.kubelet.volumes.object_files import ObjectFiles
from kedge.edge.kubelet.volumes.sources import Figures, Prepared, Request, Source, plain_name
from kedge.edge.kubelet.volumes.trees import Mounter, SystemMounter, remove_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kedge.edge.kubelet.container.environment import Place
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.volumes.local_path import LocalPath

MAX_VOLUMES = 256


class Volumes:
    """The volumes of all pods on this node.

    Args:
        pods: one directory per pod UID; emptyDirs are below it.
        memory: where the node's tmpfs is, or is to be; it holds what is made from objects.
        place: what the downward API knows of the node, asked each time.
        mounter: mounts and unmounts; tests pass their own.
        node: this node's name.
        local_path: the volumes of the built-in provisioner; beside ``pods`` if not given.

    ``usage`` asks drivers what the volumes of a pod's UID take; by ``Prepared.told_as``.
    """

    def __init__(
        self,
        pods: Path,
        memory: Path,
        place: Callable[[], Place],
        mounter: Mounter | None = None,
        *,
        node: str = "",
        local_path: LocalPath | None = None,
    ) -> None:
        self._node = node
        self._local_path = local_path
        self._pods = pods
        self._mounter = mounter or SystemMounter()
        self._files = ObjectFiles(memory, place, self._mounter)
        self._sources: dict[str, Source] = dict.fromkeys(object_files.KINDS, self._files)
        self._sources["emptyDir"] = EmptyDirs(pods, self._mounter)
        self._sources["hostPath"] = HostPaths()
        self._plugs: dict[str, Callable[[], Source]] = {
            "persistentVolumeClaim": self._claims,
            "ephemeral": self._claims,
        }
        self._directories: dict[str, str] = {}
        self.usage: Callable[[str], Awaitable[dict[str, Figures]]] = _nobody_tells

    def plug(self, kind: str, directory: str, make: Callable[[], Source]) -> None:
        """Adds a kind of volume whose source is made when the first volume needs it.

        Args:
            kind: the field's name in a volume or PersistentVolume, such as ``csi``.
            directory: of the kind below a pod's ``volumes``, such as ``kubernetes.io~csi``; where there is
                one, the source is asked to remove what it has of the pod before the rest goes.
            make: makes the source; the place for a late import.
        """
        self._plugs[kind] = make
        self._directories[directory] = kind

    async def prepare(self, pod: Pod, objects: Objects) -> dict[str, Prepared]:
        """The volumes by name; what is there already is brought up to date and kept.

        Raises:
            VolumeError: a volume cannot be had; the message names it and why.
        """
        volumes = pod["spec"].get("volumes") or []
        if len(volumes) > MAX_VOLUMES:
            raise VolumeError(f"wanted at most {MAX_VOLUMES} volumes: {len(volumes)}")
        return {
            volume["name"]: await self._prepare(_request(pod, volume, objects))
            for volume in volumes
        }

    def refresh(self, pod: Pod, objects: Objects) -> None:
        """Brings the files of a running pod up to its objects.

        Every volume is tried; the first failure is told afterwards, and its files stay as they are.

        Raises:
            VolumeError: an object is missing or a file cannot be written.
        """
        failures: list[VolumeError] = []
        for volume in pod["spec"].get("volumes") or []:
            request = _request(pod, volume, objects)
            try:
                self.source(request.kind).refresh(request)
            except VolumeError as error:
                failures.append(_named(request, error))
        if failures:
            raise failures[0]

    async def remove(self, uid: str) -> None:
        """Unmounts and removes all volumes of a pod; nothing happens if there are none.

        Raises:
            VolumeError: something cannot be unmounted or removed.
        """
        directory = self._pods / plain_name(uid) / "volumes"
        remove_all(self._mounter, directory.with_name(sub_paths.DIRECTORY))
        for name, kind in self._directories.items():
            if (directory / name).exists():
                await self.source(kind).remove(uid)
        remove_all(self._mounter, directory)
        await self._files.remove(uid)

    def left_over(self) -> list[str]:
        """The pods that have volumes made from objects, for those who look for what was left."""
        return self._files.left_over()

    def close(self) -> None:
        """Takes the node's tmpfs away, unless a pod has volumes in it; none may come any more.

        Raises:
            VolumeError: it cannot be unmounted or removed.
        """
        self._files.close()

    def source(self, kind: str) -> Source:
        """What gives volumes of a kind.

        Raises:
            VolumeError: this node has no such volumes.
        """
        found = self._sources.get(kind)
        if found is None:
            if kind not in self._plugs:
                raise VolumeError(f"{kind} is not supported on this node")
            found = self._sources[kind] = self._plugs[kind]()
        return found

    def _claims(self) -> Source:
        from kedge.edge.kubelet.volumes import claims  # noqa: PLC0415 - many nodes have none

        return claims.make(
            self.source, self._node, self._pods.parent / "local-volumes", self._local_path
        )

    async def _prepare(self, request: Request) -> Prepared:
        try:
            return await self.source(request.kind).prepare(request)
        except AttachError as error:
            text = f'MountVolume.WaitForAttach failed for volume "{request.name}" : {error}'
            raise AttachError(text) from error
        except VolumeError as error:
            raise _named(request, error) from error
        except OSError as error:
            raise _named(request, f"{error.filename}: {error.strerror}") from error


async def _nobody_tells(_uid: str) -> dict[str, Figures]:
    return {}


def _named(request: Request, error: object) -> VolumeError:
    """The failure in the kubelet's words."""
    return VolumeError(f'MountVolume.SetUp failed for volume "{request.name}" : {error}')


def _request(pod: Pod, volume: dict[str, Any], objects: Objects) -> Request:
    kind = payloads.kind_of(volume)
    return Request(pod, volume["name"], kind, volume.get(kind) or {}, objects)
