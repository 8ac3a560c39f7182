# SPDX-License-Identifier: Apache-2.0
"""The controller of ReplicaSets, and, as another one of the same class, of ReplicationControllers."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.replica_sets.plan import (
    claim,
    plan,
    seconds_to_next_available,
    status_of,
)
from kedge.cluster.machinery import conditions, events
from kedge.cluster.machinery.batches import slowly
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.owners import adopt, controller_reference, release
from kedge.cluster.machinery.reconciler import Reconciler, together
from kedge.cluster.machinery.selectors import labels_match
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.kinds import Kind
    from kedge.cluster.machinery.cache import WorkloadCache
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod, Workload
    from kedge.cluster.machinery.wire import Object


class ReplicaSets:
    """Keeps the pods of one kind of workload at the number asked for.

    Args:
        kind: the workloads'.
        workloads: they.
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(
        self,
        kind: Kind,
        workloads: WorkloadCache,
        client: Client,
        informer: Informer,
        recorder: Recorder,
    ) -> None:
        self._kind = kind
        self._workloads = workloads
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._work: Reconciler[Key] = Reconciler(kind.resource, self._reconcile, informer)
        workloads.watch(self._workload_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _workload_changed(self, old: Workload | None, new: Workload | None) -> None:
        record = new or old
        if record is not None:
            self._work.add(record.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            if pod.owner is not None:
                if pod.owner.kind == self._kind.kind:
                    self._work.add((pod.namespace, pod.owner.name))
            elif new is not None and pod.active:
                self._offer(pod)

    def _offer(self, pod: Pod) -> None:
        if not len(self._workloads):
            return
        for record in self._workloads.within(pod.namespace):
            if labels_match(record.selector, pod.labels):
                self._work.add(record.key)

    def _key(self, key: Key) -> ObjectKey:
        return ObjectKey(self._kind.group, self._kind.resource, *key)

    def _reference(self, record: Workload) -> Object:
        return controller_reference(self._kind.api_version, self._kind.kind, record)

    async def _reconcile(self, key: Key) -> float | None:
        record = self._workloads.get(*key)
        if record is None:
            return None
        claimed = await self._claim(record)
        decided = plan(record, claimed)
        stored = self._client.get(self._key(key))
        if stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        failure: KedgeError | None = None
        try:
            await slowly([partial(self._create_one, record, stored)] * decided.create)
            await self._delete(record, decided.delete)
        except KedgeError as error:
            failure = error
        await self._informer.caught_up()
        await self._write_status(record, stored, failure)
        if failure is not None:
            raise failure
        now = time.time()
        return seconds_to_next_available(record, self._informer.pods.owned_by(record.uid), now)

    async def _claim(self, record: Workload) -> tuple[Pod, ...]:
        pods = self._informer.pods
        claimed = claim(record, pods.owned_by(record.uid), pods.strays(record.namespace))
        for pod in claimed.release:
            await release(self._client, ObjectKey("", "pods", *pod.key), pod.uid, record.uid)
        reference = self._reference(record)
        for pod in claimed.adopt:
            await adopt(self._client, ObjectKey("", "pods", *pod.key), pod.uid, reference)
        return (*claimed.owned, *claimed.adopt)

    async def _create_one(self, record: Workload, stored: Object) -> None:
        template = stored["spec"]["template"]
        metadata = template.get("metadata") or {}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{record.name}-",
                "namespace": record.namespace,
                "labels": metadata.get("labels") or {},
                "annotations": metadata.get("annotations") or {},
                "finalizers": metadata.get("finalizers") or [],
                "ownerReferences": [self._reference(record)],
            },
            "spec": template["spec"],
        }
        try:
            created = await self._client.create(ObjectKey("", "pods", record.namespace, ""), body)
        except KedgeError as error:
            self._say(record, events.WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        name = created["metadata"]["name"]
        self._say(record, events.NORMAL, "SuccessfulCreate", f"Created pod: {name}")

    async def _delete(self, record: Workload, pods: Sequence[Pod]) -> None:
        await together(self._delete_one(record, pod) for pod in pods)

    async def _delete_one(self, record: Workload, pod: Pod) -> None:
        await self._client.delete(ObjectKey("", "pods", *pod.key), uid=pod.uid)
        self._say(record, events.NORMAL, "SuccessfulDelete", f"Deleted pod: {pod.name}")

    def _say(self, record: Workload, kind: str, reason: str, message: str) -> None:
        about = events.Reference(self._kind.kind, self._kind.api_version, *record.key, record.uid)
        self._recorder.record(about, kind, reason, message)

    async def _write_status(
        self, record: Workload, stored: Object, failure: KedgeError | None
    ) -> None:
        now = time.time()
        labels = (stored["spec"]["template"].get("metadata") or {}).get("labels") or {}
        status = status_of(record, labels, self._informer.pods.owned_by(record.uid), now)
        old = stored.get("status") or {}
        kept = old.get("conditions")
        if failure is not None:
            if conditions.find(kept, "ReplicaFailure") is None:
                kept = conditions.with_condition(
                    kept,
                    "ReplicaFailure",
                    "True",
                    reason="FailedCreate",
                    message=str(failure),
                    now=now,
                )
        else:
            kept = conditions.without(kept, "ReplicaFailure")
        if kept:
            status["conditions"] = kept
        patch = changed_fields(old, status)
        if patch:
            await self._client.patch_status(self._key(record.key), patch, uid=record.uid)
