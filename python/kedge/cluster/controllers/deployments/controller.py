# SPDX-License-Identifier: Apache-2.0
"""The Deployment controller: reads what ``rollout.decide`` needs, and does what it says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.deployments import history
from kedge.cluster.controllers.deployments.model import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    REVISION,
    Deployment,
    ReplicaSet,
    Scale,
)
from kedge.cluster.controllers.deployments.rollout import decide
from kedge.cluster.machinery import events
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.owners import adopt, controller_reference, release
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.selectors import is_empty, labels_match
from kedge.errors import AlreadyExists

if TYPE_CHECKING:
    from kedge.cluster.controllers.deployments.model import Decision
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod, Workload
    from kedge.cluster.machinery.wire import Object

REPLICA_SETS = ("apps", "replicasets")


class Deployments:
    """The Deployment controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._work: Reconciler[Key] = Reconciler("deployments", self._reconcile, informer)
        informer.deployments.watch(self._deployment_changed)
        informer.replica_sets.watch(self._replica_set_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _deployment_changed(self, old: Workload | None, new: Workload | None) -> None:
        record = new or old
        if record is not None:
            self._work.add(record.key)

    def _replica_set_changed(self, old: Workload | None, new: Workload | None) -> None:
        for record in (old, new):
            if record is None:
                continue
            if record.owner is not None:
                if record.owner.kind == "Deployment":
                    self._work.add((record.namespace, record.owner.name))
            elif new is not None:
                for deployment in self._informer.deployments.within(record.namespace):
                    if labels_match(deployment.selector, record.labels):
                        self._work.add(deployment.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod that has gone may be what a Recreate waits for."""
        if old is None or old.owner is None or (new is not None and not new.finished):
            return
        owner = self._informer.replica_sets.get(old.namespace, old.owner.name)
        if owner is not None and owner.owner is not None:
            self._work.add((old.namespace, owner.owner.name))

    async def _reconcile(self, key: Key) -> float | None:
        record = self._informer.deployments.get(*key)
        stored = self._client.get(ObjectKey("apps", "deployments", *key))
        if record is None or stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        if is_empty(record.selector):
            return None
        await self._claim(record)
        replica_sets = self._replica_sets(record)
        decision = decide(
            stored, replica_sets, old_pods=self._old_pods(stored, replica_sets), now=time.time()
        )
        await self._act(record, Deployment.of(stored), decision)
        await self._write_status(record, stored, decision)
        return decision.again_seconds

    async def _claim(self, record: Workload) -> None:
        if record.deleted:
            return
        reference = controller_reference("apps/v1", "Deployment", record)
        for each in self._informer.replica_sets.within(record.namespace):
            key = ObjectKey(*REPLICA_SETS, *each.key)
            selected = labels_match(record.selector, each.labels)
            if each.owner is None and selected and not each.deleted:
                await adopt(self._client, key, each.uid, reference)
            elif each.owner is not None and each.owner.uid == record.uid and not selected:
                await release(self._client, key, each.uid, record.uid)
        await self._informer.caught_up()

    def _replica_sets(self, record: Workload) -> list[Object]:
        owned = self._informer.replica_sets.owned_by(record.uid)
        found = (self._client.get(ObjectKey(*REPLICA_SETS, *each.key)) for each in owned)
        return [each for each in found if each is not None]

    def _old_pods(self, stored: Object, replica_sets: list[Object]) -> bool:
        _, old = history.split(
            Deployment.of(stored), [ReplicaSet.of(each) for each in replica_sets]
        )
        return any(
            not pod.finished for each in old for pod in self._informer.pods.owned_by(each.uid)
        )

    async def _act(self, record: Workload, deployment: Deployment, decision: Decision) -> None:
        if decision.revision is not None:
            await self._client.patch(
                ObjectKey("apps", "deployments", *record.key),
                {"metadata": {"uid": record.uid, "annotations": {REVISION: decision.revision}}},
            )
        for replica_set, patch in decision.annotate:
            await self._patch(record, replica_set, patch)
        if decision.create is not None:
            await self._create(record, deployment, decision.create)
        for step in decision.scale:
            await self._scale(record, deployment, step)
        for replica_set in decision.delete:
            key = ObjectKey(*REPLICA_SETS, record.namespace, replica_set.name)
            await self._client.delete(key, uid=replica_set.uid)

    async def _patch(self, record: Workload, replica_set: ReplicaSet, patch: Object) -> None:
        metadata = {**(patch.get("metadata") or {}), "uid": replica_set.uid}
        key = ObjectKey(*REPLICA_SETS, record.namespace, replica_set.name)
        await self._client.patch(key, {**patch, "metadata": metadata})

    async def _create(self, record: Workload, deployment: Deployment, body: Object) -> None:
        name = body["metadata"]["name"]
        try:
            await self._client.create(ObjectKey(*REPLICA_SETS, record.namespace, name), body)
        except AlreadyExists:
            await self._collided(record, deployment, name)
            return
        if body["spec"]["replicas"]:
            self._say(record, f"Scaled up replica set {name} from 0 to {body['spec']['replicas']}")

    async def _collided(self, record: Workload, deployment: Deployment, name: str) -> None:
        """Another template has the same hash, or a stranger the name: the next hash is another."""
        present = self._client.get(ObjectKey(*REPLICA_SETS, record.namespace, name))
        if present is None or present["metadata"].get("deletionTimestamp"):
            return
        count = (deployment.status.get("collisionCount") or 0) + 1
        key = ObjectKey("apps", "deployments", *record.key)
        await self._client.patch_status(key, {"collisionCount": count}, uid=record.uid)

    async def _scale(self, record: Workload, deployment: Deployment, step: Scale) -> None:
        before = step.replica_set.replicas
        annotations = {
            DESIRED_REPLICAS: str(deployment.replicas),
            MAX_REPLICAS: str(deployment.max_replicas),
        }
        patch = {"metadata": {"annotations": annotations}, "spec": {"replicas": step.replicas}}
        await self._patch(record, step.replica_set, patch)
        way = "up" if step.replicas > before else "down"
        name = step.replica_set.name
        self._say(record, f"Scaled {way} replica set {name} from {before} to {step.replicas}")

    def _say(self, record: Workload, message: str) -> None:
        about = events.Reference("Deployment", "apps/v1", *record.key, record.uid)
        self._recorder.record(about, events.NORMAL, "ScalingReplicaSet", message)

    async def _write_status(self, record: Workload, stored: Object, decision: Decision) -> None:
        old = dict(stored.get("status") or {})
        if "collisionCount" not in decision.status:
            old.pop("collisionCount", None)
        patch = changed_fields(old, decision.status)
        if patch:
            key = ObjectKey("apps", "deployments", *record.key)
            await self._client.patch_status(key, patch, uid=record.uid)
