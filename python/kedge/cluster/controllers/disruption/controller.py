# SPDX-License-Identifier: Apache-2.0
"""Keeps the status of PodDisruptionBudgets equal to their pods."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.disruption import plan
from kedge.cluster.machinery import budgets, conditions, events, scales
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.selectors import labels_match
from kedge.errors import ApiError, NoScale

if TYPE_CHECKING:
    from kedge.cluster.machinery.budgets import Budget
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod

Object = dict[str, Any]

STALE_SECONDS = 120.0
"""How long a pod may be said to be about to end before that is taken back."""


class Disruption:
    """The disruption controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: events.Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._work: Reconciler[tuple[str, str, str]] = Reconciler(
            "disruption", self._reconcile, informer, workers=2
        )
        informer.budgets.watch(self._budget_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _budget_changed(self, _old: Budget | None, new: Budget | None) -> None:
        if new is not None:
            self._work.add(("budget", *new.key))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None and new.disrupted and new.active:
            self._work.add(("pod", *new.key))
        if old is not None and new is not None and _looks_same(old, new):
            return
        for pod in (old, new):
            if pod is not None and (pod is new or new is None or pod.labels is not new.labels):
                for budget in self._informer.budgets.selecting(pod.namespace, pod.labels):
                    self._work.add(("budget", *budget.key))

    async def _reconcile(self, what: tuple[str, str, str]) -> float | None:
        kind, *key = what
        if kind == "pod":
            return await self._reset(key[0], key[1])
        return await self._assess((key[0], key[1]))

    async def _assess(self, key: Key) -> float | None:
        record = self._informer.budgets.get(*key)
        stored = self._client.get(ObjectKey(budgets.GROUP, budgets.RESOURCE, *key))
        if record is None or stored is None or record.uid != stored["metadata"]["uid"]:
            return None
        pods = [
            pod
            for pod in self._informer.pods.within(key[0])
            if labels_match(record.selector, pod.labels)
        ]
        if not pods:
            self._say(record, events.NORMAL, "NoPods", "No matching pods found")
        self._warn_of_others(record, pods)
        now = time.time()
        try:
            expected, desired = self._wanted(record, stored, pods)
        except (ApiError, NoScale) as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            self._say(record, events.WARNING, "CalculateExpectedPodCountFailed", text)
            await self._write(stored, plan.failed(stored, str(error), now))
            return None
        before = (stored.get("status") or {}).get("disruptedPods") or {}
        leaving = plan.disrupted(pods, before, now)
        self._tell_overdue(record, pods, leaving.overdue)
        counts = (plan.healthy(pods, leaving.pods), desired, expected)
        await self._write(stored, plan.status_of(stored, counts, leaving.pods, now))
        return leaving.next_seconds

    def _wanted(self, record: Budget, stored: Object, pods: list[Pod]) -> tuple[int, int]:
        """How many pods are expected, and how many have to be healthy."""
        spec = stored.get("spec") or {}
        if not plan.needs_scale(spec):
            return plan.wanted(spec, len(pods), 0)
        counts: dict[str, int] = {}
        known: set[str] = set()
        unmanaged = False
        for pod in pods:
            if pod.owner is None:
                unmanaged = True
            elif pod.owner.uid not in known:
                known.add(pod.owner.uid)
                found = scales.wanted_by(self._client, pod.owner, pod.namespace)
                if found is None:
                    raise NoScale(f'found no controllers for pod "{pod.name}"')
                counts[found[0]] = found[1]
        if unmanaged:
            text = (
                f"Pods selected by this PodDisruptionBudget (selector: {_shown(spec)}) were found to be unmanaged. As a "
                "result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "
                'To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.'
            )
            self._say(record, events.WARNING, "UnmanagedPods", text)
        return plan.wanted(spec, len(pods), sum(counts.values()))

    def _warn_of_others(self, record: Budget, pods: list[Pod]) -> None:
        """Pods that several budgets select cannot be evicted by the API."""
        for pod in pods:
            found = self._informer.budgets.selecting(pod.namespace, pod.labels)
            if len(found) > 1:
                text = (
                    f'Pod "{pod.namespace}"/"{pod.name}" matches multiple PodDisruptionBudgets.  '
                    f'Chose "{record.name}" arbitrarily.'
                )
                about = events.Reference("Pod", "v1", *pod.key, pod.uid)
                reason = "MultiplePodDisruptionBudgets"
                self._recorder.record(about, events.WARNING, reason, text)

    def _tell_overdue(self, record: Budget, pods: list[Pod], overdue: tuple[str, ...]) -> None:
        for pod in pods:
            if pod.name in overdue:
                text = f"Pod was expected by PDB {record.namespace}/{record.name} to be deleted but it wasn't"
                about = events.Reference("Pod", "v1", *pod.key, pod.uid)
                self._recorder.record(about, events.WARNING, "NotDeleted", text)

    async def _write(self, stored: Object, status: Object) -> None:
        patch = changed_fields(stored.get("status") or {}, status)
        gone = (stored.get("status") or {}).get("disruptedPods") or {}
        if "disruptedPods" in status and patch.get("disruptedPods"):
            kept = status["disruptedPods"]
            patch["disruptedPods"] = {**{name: None for name in gone if name not in kept}, **kept}
        if not patch:
            return
        metadata = stored["metadata"]
        key = ObjectKey(budgets.GROUP, budgets.RESOURCE, metadata["namespace"], metadata["name"])
        await self._client.patch_status(
            key, patch, version=metadata["resourceVersion"], uid=metadata["uid"]
        )

    async def _reset(self, namespace: str, name: str) -> float | None:
        """Takes back that a pod is about to end, when it has not ended for a while."""
        pod = self._informer.pods.get(namespace, name)
        if pod is None or not pod.disrupted or not pod.active:
            return None
        now = time.time()
        wait = pod.disrupted + STALE_SECONDS - now
        if wait > 0:
            return wait
        key = ObjectKey("", "pods", namespace, name)
        stored = self._client.get(key)
        if stored is None or stored["metadata"]["uid"] != pod.uid:
            return None
        before = (stored.get("status") or {}).get("conditions")
        changed = conditions.with_condition(
            before, "DisruptionTarget", "False", reason="", message="", now=now
        )
        changed = [
            {name: value for name, value in one.items() if value != ""}
            if one["type"] == "DisruptionTarget"
            else one
            for one in changed
        ]
        version = stored["metadata"]["resourceVersion"]
        await self._client.patch_status(key, {"conditions": changed}, version=version)
        return None

    def _say(self, record: Budget, kind: str, reason: str, message: str) -> None:
        about = events.Reference("PodDisruptionBudget", "policy/v1", *record.key, record.uid)
        self._recorder.record(about, kind, reason, message)


def _looks_same(old: Pod, new: Pod) -> bool:
    """Whether nothing that a budget counts has changed."""
    return (
        old.labels is new.labels
        and old.ready == new.ready
        and old.deleted == new.deleted
        and old.phase == new.phase
        and old.owner == new.owner
    )


def _shown(spec: Object) -> str:
    """A selector as Kubernetes writes it in this Event."""
    selector = spec.get("selector") or {}
    labels = "".join(f"{k}: {v}," for k, v in sorted((selector.get("matchLabels") or {}).items()))
    wanted = "".join(
        f"LabelSelectorRequirement{{Key:{one.get('key')},Operator:{one.get('operator')},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{wanted}}},}}"
    )
