# SPDX-License-Identifier: Apache-2.0
"""ReplicaSets: as many pods as asked for.

``plan`` decides from the ReplicaSet and the pods seen; the controller acts. Pods of a node out of
reach are not ready but still count: nothing is created in their place, for they run on. Only a pod
that is finished or being deleted is replaced.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import conditions, events
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.owners import adopt, controller_reference, release
from kedge.cluster.machinery.reconciler import Reconciler, together
from kedge.cluster.machinery.selectors import is_empty, labels_match
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod, Workload
    from kedge.cluster.machinery.wire import Object

BURST = 500
"""The most pods that one turn creates or deletes."""

_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a ReplicaSet holds, takes and lets go."""

    owned: tuple[Pod, ...]
    adopt: tuple[Pod, ...]
    release: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about the number of pods."""

    create: int
    delete: tuple[Pod, ...]


def claim(replica_set: Workload, owned: Iterable[Pod], strays: Iterable[Pod]) -> Claim:
    """Sorts pods by whether the ReplicaSet selects them. Pure.

    Args:
        replica_set: the claimant.
        owned: pods that it controls.
        strays: pods of its namespace that nothing controls.
    """
    if is_empty(replica_set.selector):
        return Claim(tuple(owned), (), ())
    held: list[Pod] = []
    let_go: list[Pod] = []
    for pod in owned:
        selected = labels_match(replica_set.selector, pod.labels)
        if selected or pod.deleted or replica_set.deleted:
            held.append(pod)
        else:
            let_go.append(pod)
    taken = (
        ()
        if replica_set.deleted
        else tuple(
            pod for pod in strays if pod.active and labels_match(replica_set.selector, pod.labels)
        )
    )
    return Claim(tuple(held), taken, tuple(let_go))


def plan(replica_set: Workload, pods: Iterable[Pod]) -> Plan:
    """How many pods to create, or which to delete. Pure.

    Args:
        replica_set: what is wanted.
        pods: the pods that it controls.
    """
    if replica_set.deleted:
        return Plan(0, ())
    active = [pod for pod in pods if pod.active]
    missing = replica_set.replicas - len(active)
    if missing >= 0:
        return Plan(min(missing, BURST), ())
    return Plan(0, tuple(deletion_order(active)[: min(-missing, BURST)]))


def deletion_order(pods: Sequence[Pod]) -> list[Pod]:
    """Pods, the one to go first in front, as upstream orders them. Pure.

    Unassigned before assigned, pending before running, not ready before ready, lower deletion cost
    first, then from nodes that hold more of them, then ready for a shorter time (in powers of ten),
    more restarts, and the younger.
    """
    together = Counter(pod.node for pod in pods if pod.active)
    now = max((max(pod.ready_since, pod.created) for pod in pods), default=0.0)

    def rank(pod: Pod) -> tuple[Any, ...]:
        return (
            bool(pod.node),
            _PHASE_ORDER.get(pod.phase, 2),
            pod.ready,
            pod.deletion_cost,
            -together[pod.node],
            _age(now - pod.ready_since) if pod.ready else 0,
            -pod.restarts,
            _age(now - pod.created),
            -pod.created,
            pod.uid,
        )

    return sorted(pods, key=rank)


def _age(seconds: float) -> int:
    """Ages of the same order of magnitude are equal, so that scaling down stays spread."""
    return len(str(int(max(seconds, 0))))


def status_of(
    replica_set: Workload, template_labels: dict[str, str], pods: Iterable[Pod], now: float
) -> dict[str, Any]:
    """The counts of a ReplicaSet's status. Pure."""
    active = [pod for pod in pods if pod.active]
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            template_labels.items() <= pod.labels.items() for pod in active
        ),
        "readyReplicas": sum(pod.ready for pod in active),
        "availableReplicas": sum(
            pod.available(replica_set.min_ready_seconds, now) for pod in active
        ),
        "observedGeneration": replica_set.generation,
    }


def seconds_to_next_available(
    replica_set: Workload, pods: Iterable[Pod], now: float
) -> float | None:
    """When the next ready pod will have been ready for long enough. Pure."""
    waits = [
        pod.ready_since + replica_set.min_ready_seconds - now
        for pod in pods
        if pod.active and pod.ready and not pod.available(replica_set.min_ready_seconds, now)
    ]
    return max(min(waits), 0.001) if waits else None


class ReplicaSets:
    """The ReplicaSet controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._work: Reconciler[Key] = Reconciler("replicasets", self._reconcile, informer)
        informer.replica_sets.watch(self._replica_set_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _replica_set_changed(self, old: Workload | None, new: Workload | None) -> None:
        record = new or old
        if record is not None:
            self._work.add(record.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            if pod.owner is not None:
                if pod.owner.kind == "ReplicaSet":
                    self._work.add((pod.namespace, pod.owner.name))
            elif new is not None and pod.active:
                self._offer(pod)

    def _offer(self, pod: Pod) -> None:
        for replica_set in self._informer.replica_sets.within(pod.namespace):
            if labels_match(replica_set.selector, pod.labels):
                self._work.add(replica_set.key)

    async def _reconcile(self, key: Key) -> float | None:
        record = self._informer.replica_sets.get(*key)
        if record is None:
            return None
        claimed = await self._claim(record)
        decided = plan(record, claimed)
        stored = self._client.get(ObjectKey("apps", "replicasets", *key))
        if stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        failure: KedgeError | None = None
        try:
            await self._create(record, stored, decided.create)
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
        reference = controller_reference("apps/v1", "ReplicaSet", record)
        for pod in claimed.adopt:
            await adopt(self._client, ObjectKey("", "pods", *pod.key), pod.uid, reference)
        return (*claimed.owned, *claimed.adopt)

    async def _create(self, record: Workload, stored: Object, count: int) -> None:
        """Creates pods in batches that double, so that a failing template costs few attempts."""
        batch = 1
        while count > 0:
            size = min(batch, count)
            await together(self._create_one(record, stored) for _ in range(size))
            count -= size
            batch *= 2

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
                "ownerReferences": [controller_reference("apps/v1", "ReplicaSet", record)],
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
        about = events.Reference("ReplicaSet", "apps/v1", *record.key, record.uid)
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
            key = ObjectKey("apps", "replicasets", *record.key)
            await self._client.patch_status(key, patch, uid=record.uid)
