# SPDX-License-Identifier: Apache-2.0
"""Watches claims, volumes, classes, pods and nodes, and makes due what they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.aio import run
from kedge.cluster.controllers.volumes.claims import Claims
from kedge.cluster.controllers.volumes.ephemeral import Ephemeral
from kedge.cluster.controllers.volumes.local_path import LocalPath
from kedge.cluster.controllers.volumes.volumes import PersistentVolumes
from kedge.cluster.machinery import binding
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Node, Pod
    from kedge.cluster.machinery.storage import Claim, StorageClass, Volume


class Volumes:
    """The controllers of claims, volumes and generic ephemeral volumes.

    Args:
        client: writes.
        informer: reads.
        recorder: events.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._informer = informer
        local_path = LocalPath(client, informer, recorder)
        claims = Claims(client, informer, recorder, local_path)
        volumes = PersistentVolumes(client, informer, recorder, local_path)
        ephemeral = Ephemeral(client, informer, recorder)
        # one worker each: two claims must not choose the same volume at once
        self._claims: Reconciler[Key] = Reconciler("claims", claims.reconcile, informer, workers=1)
        self._volumes: Reconciler[str] = Reconciler(
            "volumes", volumes.reconcile, informer, workers=1
        )
        self._ephemeral: Reconciler[Key] = Reconciler(
            "ephemeral volumes", ephemeral.reconcile, informer
        )
        self._removals: Reconciler[str] = Reconciler(
            "volumes of nodes", local_path.tell, informer, workers=1
        )
        informer.claims.watch(self._claim_changed)
        informer.volumes.watch(self._volume_changed)
        informer.classes.watch(self._class_changed)
        informer.pods.watch(self._pod_changed)
        informer.nodes.watch(self._node_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        every = (self._claims, self._volumes, self._ephemeral, self._removals)
        await run(*(one.run() for one in every))

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        claim = new or old
        if claim is None:
            return
        self._claims.add(claim.key)
        for name in {one.volume_name for one in (old, new) if one is not None and one.volume_name}:
            self._volumes.add(name)
        if new is None or old is None:
            for volume in self._informer.volumes:
                reference = volume.claim
                if reference is not None and (reference.namespace, reference.name) == claim.key:
                    self._volumes.add(volume.name)
        if new is None and claim.owner is not None:
            self._ephemeral.add((claim.namespace, claim.owner.name))

    def _volume_changed(self, old: Volume | None, new: Volume | None) -> None:
        volume = new or old
        if volume is None:
            return
        self._volumes.add(volume.name)
        for one in (old, new):
            if one is not None and one.claim is not None:
                self._claims.add((one.claim.namespace, one.claim.name))
        if new is None or (new.claim is None and not new.deleted):
            self._pending_claims(volume.name)
        host = binding.host_of(volume)
        if host and (new is None or new.deleted):
            self._tell(host)
        if host and new is None:
            self._growing_claims()

    def _pending_claims(self, volume: str = "") -> None:
        """Claims that wait for any volume, or name this one."""
        for claim in self._informer.claims:
            if claim.volume_name == volume or (not claim.is_bound and not claim.volume_name):
                self._claims.add(claim.key)

    def _growing_claims(self) -> None:
        """Claims that ask for more than they have."""
        for claim in self._informer.claims:
            if claim.is_bound and claim.given < claim.size:
                self._claims.add(claim.key)

    def _class_changed(self, _old: StorageClass | None, new: StorageClass | None) -> None:
        if new is not None:
            self._pending_claims()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None or not pod.claims:
            return
        moved = old is None or new is None or old.node != new.node or old.finished != new.finished
        if moved:
            for name in pod.claims:
                self._claims.add((pod.namespace, name))
        if old is None:
            self._ephemeral.add(pod.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        if node is None:
            return
        if old is None or new is None or old.volumes_in_use != new.volumes_in_use:
            self._tell(binding.hostname(node))
        if old is None or new is None or _free(old) != _free(new):
            self._growing_claims()
        if old is not None and new is not None and old.volume_pool == new.volume_pool:
            return
        self._pending_claims()

    def _tell(self, host: str) -> None:
        self._removals.add(host)
        for volume in self._informer.volumes:
            if volume.deleted and binding.host_of(volume) == host:
                self._volumes.add(volume.name)


def _free(node: Node) -> int:
    return node.allocatable.get(binding.POOL, 0)
