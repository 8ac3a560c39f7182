# SPDX-License-Identifier: Apache-2.0
"""emptyDir volumes: a directory on the node's disk, or memory or huge pages of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.edge.kubelet.resources import resources
from kedge.edge.kubelet.volumes import payloads
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import Prepared, Request, plain_name
from kedge.edge.kubelet.volumes.trees import Mounter, own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.edge.kubelet.pod.state import Pod

DIRECTORY = "kubernetes.io~empty-dir"
EMPTY_DIR_MODE = 0o777
HUGE_PAGES = "HugePages"


class EmptyDirs:
    """The source of emptyDir volumes.

    Args:
        pods: one directory per pod UID; emptyDirs are below it.
        mounter: mounts and unmounts.
    """

    def __init__(self, pods: Path, mounter: Mounter) -> None:
        self._pods = pods
        self._mounter = mounter

    async def prepare(self, request: Request) -> Prepared:
        """The directory, made if it is not there."""
        return Prepared(str(self._make(request)))

    def refresh(self, request: Request) -> None:
        """Nothing: what is in it is the pod's."""

    async def remove(self, uid: str) -> None:
        """Nothing: it goes with the pod's directory."""

    def _make(self, request: Request) -> Path:
        pod, source = request.pod, request.source
        uid = plain_name(pod["metadata"]["uid"])
        directory = self._pods / uid / "volumes" / DIRECTORY / plain_name(request.name)
        medium, group = source.get("medium") or "", payloads.owner_group(pod)
        if medium not in ("", "Memory") and not medium.startswith(HUGE_PAGES):
            raise VolumeError(f"emptyDir medium: wanted Memory, HugePages or none: {medium}")
        if not directory.exists():
            # Made aside: one that is there is right, whatever an agent died at.
            fresh = directory.with_name(f"{directory.name}.new")
            fresh.mkdir(mode=0o755, parents=True, exist_ok=True)
            if __debug__:
                faults.point("volume.empty_dir.made")
            _open(fresh, group)
            fresh.rename(directory)
            if __debug__:
                faults.point("volume.empty_dir.renamed")
        if not medium:
            return directory
        if str(directory.resolve()) not in self._mounter.below(directory):
            self._mount(directory, medium, pod, source)
            if __debug__:
                faults.point("volume.empty_dir.mounted")
        if group is not None and directory.stat().st_gid != group:
            _open(directory, group)
        return directory

    def _mount(self, directory: Path, medium: str, pod: Pod, source: dict[str, Any]) -> None:
        if medium == "Memory":
            self._mounter.tmpfs(directory, _size(source), EMPTY_DIR_MODE)
            return
        pages = medium.removeprefix(HUGE_PAGES).removeprefix("-") or _only_page_size(pod)
        name = f"hugepages-{int(resources.whole(pages)) >> 10}kB"
        if not Path("/sys/kernel/mm/hugepages", name).is_dir():
            raise VolumeError(f"emptyDir medium {medium}: the kernel has no huge pages of {pages}")
        limit = _page_limit(pod, pages)
        if limit <= 0:
            raise VolumeError(f"emptyDir medium {medium}: no container requests hugepages-{pages}")
        self._mounter.hugetlbfs(directory, pages.removesuffix("i"), _size(source) or limit)


def _only_page_size(pod: Pod) -> str:
    """The size of the pod's huge pages, for ``medium: HugePages``.

    Raises:
        VolumeError: it has none, or several.
    """
    sizes = {
        name.removeprefix("hugepages-")
        for amounts in _requests(pod)
        for name in amounts
        if name.startswith("hugepages-")
    }
    if len(sizes) != 1:
        raise VolumeError(
            f"emptyDir medium HugePages: wanted huge pages of one size in the pod: {sorted(sizes) or 'none'}"
        )
    return sizes.pop()


def _page_limit(pod: Pod, pages: str) -> int:
    return sum(resources.whole(one.get(f"hugepages-{pages}", "0")) for one in _requests(pod))


def _requests(pod: Pod) -> Iterator[dict[str, Any]]:
    for container in pod["spec"].get("containers") or []:
        found = container.get("resources") or {}
        yield {**(found.get("limits") or {}), **(found.get("requests") or {})}


def _open(directory: Path, group: int | None) -> None:
    """Lets every user of the pod in, and its group own what is made there."""
    directory.chmod(EMPTY_DIR_MODE)
    if group is not None:
        own(directory, group)


def _size(source: dict[str, Any]) -> int:
    """Bytes of a limit; 0 leaves it to the system, which is half of the memory."""
    try:
        return resources.whole(source["sizeLimit"]) if source.get("sizeLimit") else 0
    except ValueError as error:
        raise VolumeError(f"emptyDir sizeLimit: {error}") from error
