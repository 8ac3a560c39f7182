# SPDX-License-Identifier: Apache-2.0
"""Makes and deletes VolumeAttachments, and tells nodes in their status what is attached to them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from kedge.aio import run
from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.attachments import plan
from kedge.cluster.machinery import events
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.errors import AlreadyExists

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Node, Pod
    from kedge.cluster.machinery.storage import Attachment, Claim, Driver, Volume

_log = logging.getLogger(__name__)
Pair = tuple[str, str]
"""A node and a PersistentVolume, by name."""


class Attachments:
    """The controller of attachments.

    Args:
        client: writes.
        informer: reads.
        recorder: events.
        force_seconds: how long a node that is out of reach holds up detaching.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        client: Client,
        informer: Informer,
        recorder: Recorder,
        *,
        force_seconds: float = plan.FORCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._force_seconds = force_seconds
        self._clock = clock
        self._unneeded: dict[str, float] = {}
        self._refused: dict[Pair, set[str]] = {}
        # one worker: two nodes must not be given a volume at once that only one may have
        self._pairs: Reconciler[Pair] = Reconciler(
            "attachments", self._reconcile, informer, workers=1
        )
        self._nodes: Reconciler[str] = Reconciler("attached volumes", self._tell, informer)
        informer.pods.watch(self._pod_changed)
        informer.claims.watch(self._claim_changed)
        informer.volumes.watch(self._volume_changed)
        informer.drivers.watch(self._driver_changed)
        informer.attachments.watch(self._attachment_changed)
        informer.nodes.watch(self._node_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await run(self._pairs.run(), self._nodes.run())

    # what is due

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None or not pod.claims or not pod.node:
            return
        if old is None or new is None or old.node != new.node or old.finished != new.finished:
            for name in self._volume_names(pod):
                self._pairs.add((pod.node, name))

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        before = (old.volume_name, old.is_bound) if old is not None else None
        after = (new.volume_name, new.is_bound) if new is not None else None
        claim = new or old
        if claim is None or before == after:
            return
        for one in (old, new):
            if one is not None and one.volume_name:
                for pod in self._informer.pods.using(claim.key):
                    self._add(pod.node, one.volume_name)

    def _volume_changed(self, old: Volume | None, new: Volume | None) -> None:
        volume = new or old
        if volume is None or not volume.driver:
            return
        if old is None or new is None or old.claim != new.claim:
            self._volume_due(volume)

    def _driver_changed(self, old: Driver | None, new: Driver | None) -> None:
        driver = new or old
        for volume in self._informer.volumes:
            if driver is not None and volume.driver == driver.name:
                self._volume_due(volume)

    def _attachment_changed(self, old: Attachment | None, new: Attachment | None) -> None:
        attachment = new or old
        if attachment is None:
            return
        self._nodes.add(attachment.node)
        self._add(attachment.node, attachment.volume)
        if new is None:
            self._unneeded.pop(attachment.name, None)
            volume = self._informer.volumes.get("", attachment.volume)
            if volume is not None:
                self._volume_due(volume)  # another node may wait for it
            for pod in self._informer.pods.on_node(attachment.node):
                self._pod_changed(None, pod)  # or another volume that is the same for its driver
        elif old is not None:
            self._say_progress(old, new)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        if node is None:
            return
        self._nodes.add(node.name)
        for attachment in self._informer.attachments.on_node(node.name):
            self._add(node.name, attachment.volume)
        if old is None:
            for pod in self._informer.pods.on_node(node.name):
                self._pod_changed(None, pod)

    def _volume_due(self, volume: Volume) -> None:
        for attachment in self._informer.attachments.of_volume(volume.name):
            self._add(attachment.node, volume.name)
        for pod in self._users(volume):
            self._add(pod.node, volume.name)

    def _add(self, node: str, volume: str) -> None:
        if node and volume:
            self._pairs.add((node, volume))

    # what is done

    async def _reconcile(self, pair: Pair) -> float | None:
        node_name, volume_name = pair
        node = self._informer.nodes.get("", node_name)
        volume = self._informer.volumes.get("", volume_name)
        pods = self._needing(node, volume)
        name = plan.name_of(volume.driver, volume.handle, node_name) if volume is not None else ""
        wanted = self._wanted(node)
        waits = [
            await self._let_go(one, node)
            for one in self._informer.attachments.on_node(node_name)
            if (one.volume == volume_name or one.name == name)
            and (one.name not in wanted and plan.is_ours(one.name))
        ]
        if pods and volume is not None:
            await self._have(pair, volume, name, pods)
        else:
            self._refused.pop(pair, None)
        return min(filter(None, waits), default=None)

    async def _have(self, pair: Pair, volume: Volume, name: str, pods: list[Pod]) -> None:
        node = pair[0]
        self._unneeded.pop(name, None)
        others: list[Attachment] = []
        if plan.is_exclusive(volume.modes):
            found = self._informer.attachments.of_volume(volume.name)
            others = [one for one in found if one.node != node]
        decision = plan.to_have(self._informer.attachments.get("", name), others)
        if isinstance(decision, plan.Refuse):
            self._say_refused(pair, volume, decision.nodes, pods)
            return
        self._refused.pop(pair, None)
        if isinstance(decision, plan.Attach):
            try:
                await self._client.create(_key(name), attachment_for(volume, node))
            except AlreadyExists:
                return
            _log.info("volume is to be attached volume=%s node=%s", volume.name, node)

    async def _let_go(self, present: Attachment, node: Node | None) -> float | None:
        now = self._clock()
        waited = now - self._unneeded.setdefault(present.name, now)
        decision = plan.to_let_go(present, node, waited, self._force_seconds)
        if isinstance(decision, plan.Detach):
            if node is not None:
                await self._tell(node.name, without=present.name)
            await self._client.delete(_key(present.name), uid=present.uid)
            level = logging.WARNING if decision.is_forced else logging.INFO
            text = "volume is to be detached volume=%s node=%s forced=%s"
            _log.log(level, text, present.volume, present.node, decision.is_forced)
        return decision.seconds if isinstance(decision, plan.Wait) else None

    async def _tell(self, name: str, without: str = "") -> None:
        """Writes into a node's status what is attached to it."""
        node = self._informer.nodes.get("", name)
        if node is None:
            return
        names = set()
        for one in self._informer.attachments.on_node(name):
            volume = self._informer.volumes.get("", one.volume)
            if one.attached and not one.deleted and one.name != without and volume is not None:
                names.add(plan.unique_name(volume.driver, volume.handle))
        if names != set(node.volumes_attached):
            attached = [{"name": one, "devicePath": ""} for one in sorted(names)]
            key = ObjectKey("", "nodes", "", name)
            status = {"volumesAttached": attached or None}
            await self._client.patch_status(key, status, uid=node.uid)

    def _wanted(self, node: Node | None) -> set[str]:
        """The attachments that pods of a node need; several volumes may be one for their driver."""
        if node is None:
            return set()
        pods = self._informer.pods.on_node(node.name)
        names = {name for pod in pods for name in self._volume_names(pod)}
        volumes = [self._informer.volumes.get("", name) for name in names]
        return {
            plan.name_of(one.driver, one.handle, node.name)
            for one in volumes
            if one is not None and self._needing(node, one)
        }

    def _needing(self, node: Node | None, volume: Volume | None) -> list[Pod]:
        """The pods of a node that need a volume attached there."""
        if node is None or volume is None or not volume.driver:
            return []
        driver = self._informer.drivers.get("", volume.driver)
        if driver is not None and not driver.attaches:
            return []
        return [one for one in self._users(volume) if one.node == node.name and not one.finished]

    def _volume_names(self, pod: Pod) -> list[str]:
        """The volumes that a pod's claims are bound to."""
        claims = [self._informer.claims.get(pod.namespace, name) for name in pod.claims]
        return [one.volume_name for one in claims if one is not None and one.volume_name]

    def _users(self, volume: Volume) -> list[Pod]:
        """The pods whose claims are bound to a volume."""
        if volume.claim is None:
            return []
        claim = self._informer.claims.get(volume.claim.namespace, volume.claim.name)
        if claim is None or claim.uid != volume.claim.uid or claim.volume_name != volume.name:
            return []
        return self._informer.pods.using(claim.key)

    # what is said

    def _say_progress(self, old: Attachment, new: Attachment) -> None:
        node = self._informer.nodes.get("", new.node)
        pods = self._needing(node, self._informer.volumes.get("", new.volume))
        if new.attached and not old.attached:
            text = f'AttachVolume.Attach succeeded for volume "{new.volume}" '
            self._say(pods, "SuccessfulAttachVolume", text, kind=events.NORMAL)
        elif new.error and new.error != old.error and not new.attached:
            text = f'AttachVolume.Attach failed for volume "{new.volume}" : {new.error}'
            self._say(pods, "FailedAttachVolume", text)

    def _say_refused(
        self, pair: Pair, volume: Volume, nodes: tuple[str, ...], pods: list[Pod]
    ) -> None:
        """Once for each pod."""
        said = self._refused.setdefault(pair, set())
        users = [one for one in self._users(volume) if one.node in nodes]
        names = ", ".join(sorted(one.name for one in users))
        why = f"Volume is already used by pod(s) {names}"
        if not users:
            why = "Volume is already exclusively attached to one node and can't be attached to another"
        new = [one for one in pods if one.uid not in said]
        said.update(one.uid for one in new)
        text = f'Multi-Attach error for volume "{volume.name}" {why}'
        self._say(new, "FailedAttachVolume", text)

    def _say(self, pods: list[Pod], reason: str, text: str, *, kind: str = events.WARNING) -> None:
        for pod in pods:
            about = events.Reference("Pod", "v1", pod.namespace, pod.name, pod.uid)
            self._recorder.record(about, kind, reason, text)


def attachment_for(volume: Volume, node: str) -> dict[str, Any]:
    """The VolumeAttachment to make. Pure."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": plan.name_of(volume.driver, volume.handle, node)},
        "spec": {
            "attacher": volume.driver,
            "nodeName": node,
            "source": {"persistentVolumeName": volume.name},
        },
    }


def _key(name: str) -> ObjectKey:
    return ObjectKey("storage.k8s.io", "volumeattachments", "", name)
