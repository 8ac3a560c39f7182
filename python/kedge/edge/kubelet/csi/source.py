# SPDX-License-Identifier: Apache-2.0
"""Volumes of CSI drivers for pods: attached, staged, published; and back.

Every step may be repeated, as CSI wants it, and is repeated after a crash: what is to be done is read from
the pod and the node's store (so it works offline and after a reboot), what is to be undone from the records
on disk (``state``). One volume is worked on by one at a time; a driver that hangs holds up only the pods
that want its volumes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.edge.kubelet.csi import figures, requests, state
from kedge.edge.kubelet.csi.drivers import STAGE, Driver, Drivers
from kedge.edge.kubelet.csi.growth import Growth, given
from kedge.edge.kubelet.csi.in_use import Records
from kedge.edge.kubelet.csi.removal import Removal
from kedge.edge.kubelet.csi.republishing import Republishing
from kedge.edge.kubelet.csi.shared import Shared
from kedge.edge.kubelet.volumes import ownership
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.payloads import owner_group
from kedge.edge.kubelet.volumes.sources import Figures, Prepared, Request
from kedge.edge.kubelet.volumes.trees import SystemMounter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from kedge.edge.kubelet.csi.state import Layout, Record
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.plugins.face import PluginClient
    from kedge.edge.kubelet.volumes.trees import Mounter

GROW_AGAIN_SECONDS = 30.0


class CsiVolumes:
    """The source of ``csi`` volumes.

    Args:
        client: calls drivers.
        drivers: those that are registered.
        layout: where things are.
        node: this node's name.
        spawn: runs a task for as long as the agent runs.
        mounter: looks at what is mounted.
        tell: takes a pod, a reason and a text, for an Event.
        report: takes a claim and the size that it has from now on.
        changed: told when ``in_use`` says something else.
    """

    def __init__(
        self,
        client: PluginClient,
        drivers: Drivers,
        layout: Layout,
        node: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        mounter: Mounter | None = None,
        tell: Callable[[dict[str, Any], str, str], None] = lambda *_: None,
        report: Callable[[dict[str, Any], str], None] = lambda *_: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._node = node
        self._spawn = spawn
        self._tell = tell
        records = Records(layout, changed)
        self._shared = Shared(client, drivers, layout, records, mounter or SystemMounter())
        self._removal = Removal(self._shared)
        self._growth = Growth(self._shared, tell, report)
        self._asking = asyncio.Semaphore(figures.AT_ONCE)
        self._retrying: set[Path] = set()
        self._republishing = Republishing(spawn, self._publish_again)

    # to have

    async def prepare(self, request: Request) -> Prepared:
        """The volume, published for the pod; nothing is asked if it is already.

        Raises:
            VolumeError: it cannot be had now.
        """
        volume = requests.volume(request)
        if not volume.driver or not volume.handle:
            raise VolumeError("csi: wanted driver and volumeHandle")
        uid = request.pod["metadata"]["uid"]
        record = self._shared.layout.record(uid, volume, is_staged=False)
        async with self._shared.lock(volume.driver, volume.handle):
            known = state.read(record.directory)
            same = known is not None and known[1:3] == (volume.driver, volume.handle)
            if known is not None and same and self._shared.is_mounted(known):
                about = requests.driver_object(request.objects, volume.driver)
                self._republishing.follow(known.directory, request, volume, about)
                await self._grow(request, volume, known)
                return _prepared(volume, known)
            return await self._publish(request, volume)

    async def _publish(self, request: Request, volume: requests.Volume) -> Prepared:
        driver, objects = self._shared.drivers.find(volume.driver), request.objects
        about = requests.driver_object(objects, volume.driver)
        requests.check_lifecycle(volume, about)
        stages = STAGE in driver.capabilities and not volume.is_inline
        uid = request.pod["metadata"]["uid"]
        record = self._shared.layout.record(uid, volume, is_staged=stages)._replace(
            bytes=given(request, volume), is_attached=requests.needs_attaching(volume, about)
        )
        common = self._common(request, volume, record, driver)
        stage_secrets = requests.secrets(request, "nodeStageSecretRef") if stages else {}
        publish = common | self._to_publish(request, volume, record, about)
        self._shared.records.write(record)
        if __debug__:
            faults.point("csi.recorded")
        if stages:
            await self._stage(driver, volume, record, common, stage_secrets)
        await self._shared.call(driver, "NodePublishVolume", publish)
        self._republishing.follow(record.directory, request, volume, about)
        if __debug__:
            faults.point("csi.published")
        if volume.is_block and not record.target.is_block_device():
            raise VolumeError(
                f"driver {volume.driver}: NodePublishVolume: wanted a block device: {record.target}"
            )
        owner = requests.group_to_give(request, volume, driver, about)
        if owner is not None:
            path, policy = str(record.target), ownership.policy(request.pod)
            await asyncio.to_thread(ownership.give, path, owner, policy)
        await self._grow(request, volume, record)
        return _prepared(volume, record)

    def _attached(
        self, volume: requests.Volume, record: Record, objects: Objects
    ) -> dict[str, str]:
        """What attaching gave; first of all the cloud is told that the volume is wanted here.

        Raises:
            AttachError: it is not attached yet.
        """
        if not record.is_attached:
            return {}
        if not self._shared.records.has(record):
            self._shared.records.write(record)
        return requests.attached(volume, objects, self._node)

    async def _stage(
        self,
        driver: Driver,
        volume: requests.Volume,
        published: Record,
        common: dict[str, Any],
        secrets: dict[str, str],
    ) -> None:
        path = self._shared.layout.staging(volume.driver, volume.handle)
        if (volume.driver, volume.handle) in self._shared.staged:
            return
        self._shared.records.write(
            published._replace(directory=path.parent, is_block=False, bytes=0)
        )
        path.mkdir(mode=0o750, exist_ok=True)
        request = common | {
            "staging_target_path": str(path),
            "secrets": secrets,
            "volume_context": volume.attributes,
        }
        await self._shared.call(driver, "NodeStageVolume", request)
        self._shared.staged.add((volume.driver, volume.handle))
        if __debug__:
            faults.point("csi.staged")

    def _to_publish(
        self,
        request: Request,
        volume: requests.Volume,
        record: Record,
        about: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """What only publishing is told, the first time or again.

        Raises:
            VolumeError: a Secret or a token has not come yet.
        """
        secrets = requests.secrets(request, "nodePublishSecretRef")
        context, tokens = requests.context(request, volume, about), requests.tokens(request, about)
        is_secret = requests.wants_secret_tokens(about)
        return {
            "staging_target_path": self._shared.layout.staging_of(record),
            "target_path": str(record.target),
            "readonly": volume.read_only,
            "secrets": secrets | tokens if is_secret else secrets,
            "volume_context": context if is_secret else context | tokens,
        }

    async def _publish_again(self, request: Request, volume: requests.Volume) -> None:
        """What a driver with ``requiresRepublish`` wants now and then; the mount stays, whatever comes."""
        record = self._shared.layout.record(request.pod["metadata"]["uid"], volume, is_staged=False)
        async with self._shared.lock(volume.driver, volume.handle):
            known = state.read(record.directory)
            if known is None or not self._shared.is_mounted(known):
                self._republishing.forget(record.directory)
                return
            try:
                driver = self._shared.drivers.find(volume.driver)
                common = self._common(request, volume, known, driver)
                about = requests.driver_object(request.objects, volume.driver)
                publish = common | self._to_publish(request, volume, known, about)
                await self._shared.call(driver, "NodePublishVolume", publish)
                self._republishing.follow(record.directory, request, volume, about)
            except VolumeError as error:
                text = f'MountVolume.SetUp failed for volume "{request.name}" : {error}'
                self._tell(request.pod, "FailedMount", text)

    def _common(
        self, request: Request, volume: requests.Volume, record: Record, driver: Driver
    ) -> dict[str, Any]:
        """What staging and publishing are both told.

        Raises:
            AttachError: the volume is not attached yet.
        """
        return {
            "volume_id": volume.handle,
            "publish_context": self._attached(volume, record, request.objects),
            "volume_capability": requests.capability(volume, driver, owner_group(request.pod)),
        }

    def refresh(self, request: Request) -> None:
        """A claim that has grown is told to its driver; one that publishes again does it at once."""
        volume = requests.volume(request)
        record = self._shared.layout.record(request.pod["metadata"]["uid"], volume, is_staged=False)
        self._republishing.soon(record.directory)
        known = state.read(record.directory)
        if known is not None and self._growth.is_due(request, volume, known):
            self._spawn(self._grow_later(request, volume, 0.0))

    async def _grow_later(
        self, request: Request, volume: requests.Volume, wait_seconds: float
    ) -> None:
        await asyncio.sleep(wait_seconds)
        record = self._shared.layout.record(request.pod["metadata"]["uid"], volume, is_staged=False)
        async with self._shared.lock(volume.driver, volume.handle):
            known = state.read(record.directory)
            if known is not None and self._shared.is_mounted(known):
                await self._grow(request, volume, known)

    async def _grow(self, request: Request, volume: requests.Volume, known: Record) -> None:
        if await self._growth.follow(request, volume, known):
            self._retrying.discard(known.directory)
        elif known.directory not in self._retrying:
            self._retrying.add(known.directory)
            self._spawn(self._retry(request, volume, known.directory))

    async def _retry(self, request: Request, volume: requests.Volume, directory: Path) -> None:
        """Tries again until the driver has taken the new size, or the pod has gone."""
        while directory in self._retrying and state.read(directory) is not None:
            await self._grow_later(request, volume, GROW_AGAIN_SECONDS)
        self._retrying.discard(directory)

    # to give back

    async def remove(self, uid: str) -> None:
        """Unpublishes what a pod has, and unstages what nobody has any more.

        Raises:
            VolumeError: a driver did not let go; it is asked again.
        """
        for record in self._shared.layout.of_pod(uid):
            self._republishing.forget(record.directory)
            async with self._shared.lock(record.driver, record.handle):
                await self._removal.unpublish(record)

    async def sweep(self, driver: Driver) -> None:
        """Unstages what a crash left staged for nobody; asked when its driver comes."""
        await self._removal.sweep(driver)

    # to ask

    async def usage(self, uid: str) -> dict[str, Figures]:
        """What volumes of a pod take, as their drivers say: by the volume's name.

        A driver that does not say, or not in time, is left out.
        """
        records = self._shared.layout.of_pod(uid)
        return await figures.ask(self._shared, records, self._asking)

    def in_use(self) -> list[str]:
        """What of attached volumes this node has or is about to have, as its status names it."""
        return self._shared.records.in_use()


def _prepared(volume: requests.Volume, record: Record) -> Prepared:
    return Prepared(
        str(record.target),
        read_only=volume.read_only,
        is_block=volume.is_block,
        told_as=record.directory.name,
    )
