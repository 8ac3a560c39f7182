# SPDX-License-Identifier: Apache-2.0
"""Takes away what nobody uses: images when their disk fills, dead containers beyond the settings.

An image is kept while a container has it, while a pod of the node's store names it (so that a node
offline can start every pod that it knows, also after a boot), when the runtime pins it or it was
imported, and for a while after it was pulled. The runtime's own sandbox image is always kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kedge import metrics
from kedge.edge.kubelet import labels
from kedge.edge.kubelet.pod import lifecycle
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kedge.edge.kubelet.images.imported import Imported
    from kedge.edge.kubelet.pressure.manager import Settings
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker
    from kedge.edge.runtime import ContainerInfo, Image

_log = logging.getLogger(__name__)


def unused(images: Iterable[Image], used: set[str], kept: set[str]) -> list[Image]:
    """Images that may go: no container, no pod and no rule holds them.

    Args:
        images: all on the node.
        used: ids, names and digests that containers and pods refer to.
        kept: the runtime's own.
    """
    found = []
    for one in images:
        names = {one.id, *one.tags, *one.digests}
        is_sandbox = any(tag.rpartition("/")[2].startswith("pause:") for tag in one.tags)
        if not (one.is_pinned or is_sandbox or names & used or names & kept):
            found.append(one)
    return found


def in_order(
    images: Iterable[Image], pulled: dict[str, float], last_used: dict[str, float]
) -> list[Image]:
    """Least recently used first, then the one pulled first."""
    return sorted(images, key=lambda one: (last_used.get(one.id, 0.0), pulled.get(one.id, 0.0)))


def names_of(reference: str) -> set[str]:
    """How a runtime may write a reference: with the default registry and tag spelled out."""
    first, slash, _ = reference.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    whole = reference if is_host else f"docker.io/{reference if slash else f'library/{reference}'}"
    if "@" not in whole and ":" not in whole.rpartition("/")[2]:
        whole += ":latest"
    return {reference, whole}


def surplus(dead: list[ContainerInfo], most: int) -> list[ContainerInfo]:
    """The oldest beyond so many."""
    if most < 0 or len(dead) <= most:
        return []
    return sorted(dead, key=lambda one: one.created_at)[: len(dead) - most]


class Collector:
    """One for the node.

    Args:
        tools: the kubelet's shared parts.
        workers: all pods' workers.
        settings: from the configuration.
        began: since when uses of images are known.
        imported: images that came from archives, which no registry may have.
    """

    def __init__(
        self,
        tools: Tools,
        workers: Callable[[], list[PodWorker]],
        settings: Settings,
        began: float,
        imported: Imported,
    ) -> None:
        self._tools = tools
        self._workers = workers
        self._settings = settings
        self._began = began
        self._imported = imported
        self._kept: set[str] | None = None

    async def limit_dead(self) -> None:
        """Removes dead containers beyond what the settings keep, the oldest first.

        Raises:
            RuntimeFailure: the runtime does not answer.
        """
        dead = await self._dead(only_ended=False)
        await self._remove_containers(dead, self._settings.dead_containers)

    async def make_room(self, wanted: int) -> None:
        """Removes unused images until so many bytes are free, and says when that cannot be.

        Raises:
            RuntimeFailure: the runtime does not answer.
        """
        _log.info("the disk of images is full: freeing %d bytes", wanted)
        freed = await self.remove_images(wanted)
        if freed < wanted:
            text = (
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} "
                f"bytes, but only found {freed} bytes eligible to free."
            )
            self._tools.recorder.node("FreeDiskSpaceFailed", text, warning=True)

    async def reclaim(self) -> None:
        """All that can go when the disk runs short: ended pods' containers, then unused images."""
        try:
            await self._remove_containers(await self._dead(only_ended=True), 0)
            await self.remove_images(1 << 62)
        except RuntimeFailure as error:
            self._tools.recorder.node("ImageGCFailed", str(error), warning=True)

    async def remove_images(self, wanted: int) -> int:
        """Removes unused images until so many bytes are free; how many were freed.

        Raises:
            RuntimeFailure: the runtime does not answer.
        """
        freed, now = 0, self._tools.clock()
        images = self._tools.images
        for one in in_order(await self._unused(), images.pulled, images.last_used):
            if freed >= wanted:
                break
            if now < images.pulled.get(one.id, 0.0) + self._settings.image_minimum_age_seconds:
                continue
            if await self._remove(one, "space"):
                freed += one.size_bytes
        return freed

    async def remove_old(self) -> None:
        """Removes images that nobody has used for too long.

        Raises:
            RuntimeFailure: the runtime does not answer.
        """
        images = self._tools.images
        oldest = self._tools.clock() - self._settings.image_maximum_age_seconds
        for one in await self._unused():
            last = max(images.last_used.get(one.id, self._began), images.pulled.get(one.id, 0.0))
            if last < oldest:
                await self._remove(one, "age")

    async def _remove(self, one: Image, reason: str) -> bool:
        name = next(iter((*one.tags, *one.digests)), one.id)
        try:
            await self._tools.runtime.remove_image(one.id)
        except RuntimeFailure as error:
            text = f"image {name} cannot be removed: {error}"
            self._tools.recorder.node("ImageGCFailed", text, warning=True)
            return False
        metrics.count("kubelet_image_garbage_collected_total", reason=reason)
        _log.info("image removed image=%s bytes=%d", name, one.size_bytes)
        self._tools.images.forget(one.id)
        return True

    async def _unused(self) -> list[Image]:
        if self._kept is None:
            self._kept = await self._tools.runtime.own_images()
        used: set[str] = set()
        for info in await self._tools.runtime.list_containers():
            used |= {info.image_ref, *names_of(info.image)}
            self._tools.images.use(info.image_ref)
        for worker in self._workers():
            if not lifecycle.is_terminal(worker.pod) and worker.ended is None:
                for one in lifecycle.every_container(worker.pod):
                    used |= names_of(one.get("image", ""))
                for volume in worker.pod["spec"].get("volumes") or []:
                    used |= names_of((volume.get("image") or {}).get("reference", ""))
        kept = {name for one in self._kept for name in names_of(one)}
        # Read before the list: what is imported meanwhile is in neither.
        imported = self._imported.ids()
        images = await self._tools.runtime.list_images()
        for gone in imported - {one.id for one in images}:
            self._imported.drop(gone)
        return unused(images, used, kept | imported)

    # containers

    async def _dead(self, *, only_ended: bool) -> list[ContainerInfo]:
        """Containers of this node that have ended: those of ended pods, or all but each one's last."""
        workers = {one.uid: one for one in self._workers()}
        latest = {
            found.id
            for one in workers.values()
            if not one.is_wound_down()
            for found in one.latest_containers()
        }
        ended = {uid for uid, one in workers.items() if one.is_wound_down()}
        found = []
        for info in await self._tools.runtime.list_containers():
            uid = info.labels.get(labels.POD_UID, "")
            if info.state != "exited" or uid not in workers or info.id in latest:
                continue
            if only_ended and uid not in ended:
                continue
            known = workers[uid].containers.get(info.id)
            if known and self._tools.clock() < known.finished_at + self._settings.dead_age_seconds:
                continue
            found.append(info)
        return found

    async def _remove_containers(self, dead: list[ContainerInfo], most: int) -> None:
        workers = {one.uid: one for one in self._workers()}
        for info in surplus(dead, most):
            await self._tools.runtime.remove_container(info.id)
            worker = workers.get(info.labels.get(labels.POD_UID, ""))
            if worker is not None:
                worker.observe_container(None, info.id)
