# SPDX-License-Identifier: Apache-2.0
"""Evicting a pod: deleting it, as far as the PodDisruptionBudget that selects it allows.

What a budget allows is its controller's to say; an eviction takes one from it before the pod goes, and writes
down which pod that was, so that the controller does not count it as healthy meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import selectors
from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.api.meta import timestamp
from kedge.api.validation import Problems
from kedge.cluster.apiserver import failures
from kedge.cluster.apiserver.deletion import DeleteOptions, is_dry_run
from kedge.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests

if TYPE_CHECKING:
    from kedge.cluster.apiserver.bodies import WriteOptions
    from kedge.cluster.apiserver.registry import Registry

Object = dict[str, Any]

GROUP = "policy"
BUDGETS = "poddisruptionbudgets"
MAX_DISRUPTED = 2000
"""Pods that may be on their way out under one budget."""
ATTEMPTS = 20
"""How often an eviction is decided again because somebody changed what it was decided on."""
_PAUSE_SECONDS = 0.1
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_SEVERAL = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
_TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a budget says to an eviction.

    Attributes:
        takes: the pod is one of those that the budget counts.
        pins: the pod may go as long as it is as it was looked at.
    """

    takes: bool = False
    pins: bool = False


def ignores_budgets(pod: Object) -> bool:
    """Whether ending a pod disrupts nothing: it is finished, not begun, or on its way out."""
    phase = pod.get("status", {}).get("phase", "Pending")
    return phase in (*_TERMINAL, "Pending") or _is_leaving(pod)


def judge(pod: Object, budget: Object) -> Verdict:
    """Whether a pod counts for its budget. Pure."""
    if _is_ready(pod):
        return Verdict(takes=True)
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy")
    if policy == "AlwaysAllow" or 0 < desired <= status.get("currentHealthy", 0):
        return Verdict(pins=True)
    return Verdict(takes=True)


def take(budget: Object, pod: str, now: float) -> Object:
    """The status of a budget after one more eviction. Pure.

    Raises:
        TooManyRequests: it allows none now.
        Forbidden: its status cannot be.
    """
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise still_processed(name)
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(disrupted) > MAX_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _forbidden(name, why)
    if allowed == 0:
        raise refusal(_why(name, status))
    changed = {**status, "disruptionsAllowed": allowed - 1}
    changed["disruptedPods"] = {**disrupted, pod: timestamp(now)}
    if allowed == 1:
        changed["conditions"] = [
            _insufficient(one, now) if one.get("type") == "DisruptionAllowed" else one
            for one in status.get("conditions") or ()
        ]
    return changed


def refusal(why: str, seconds: int = 0) -> TooManyRequests:
    """A budget does not allow it now."""
    details: dict[str, object] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if seconds:
        details["retryAfterSeconds"] = seconds
    return TooManyRequests(_REFUSED, details)


def still_processed(name: str) -> TooManyRequests:
    """A budget has not been looked at since it changed."""
    return refusal(f"The disruption budget {name} is still being processed by the server.", 10)


def _why(name: str, status: Object) -> str:
    found = [
        one for one in status.get("conditions") or () if one.get("type") == "DisruptionAllowed"
    ]
    condition = found[0] if found and found[0].get("status") == "False" else {}
    message, reason = condition.get("message", ""), condition.get("reason", "")
    current, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if message and reason == "SyncFailed":
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
    if current <= desired:
        return (
            f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        )
    if message:
        return f"The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"
    return f"The disruption budget {name} does not allow evicting pods currently"


def _insufficient(condition: Object, now: float) -> Object:
    changed = {**condition, "status": "False", "reason": "InsufficientPods", "message": ""}
    if condition.get("status") != "False":
        changed["lastTransitionTime"] = timestamp(now)
    return changed


def _forbidden(name: str, why: str) -> Forbidden:
    details: dict[str, object] = {"name": name, "group": GROUP, "kind": "poddisruptionbudget"}
    return Forbidden(f'poddisruptionbudget.policy "{name}" is forbidden: {why}', details)


def _is_leaving(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


class Evictions:
    """Evicts pods.

    Args:
        registry: reads and writes.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def evict(self, key: ObjectKey, eviction: Object, how: WriteOptions) -> Object:
        """Evicts a pod; a ``Status``.

        Args:
            key: the pod.
            eviction: the ``Eviction``.
            how: on whose behalf, and whether only to decide.

        Raises:
            TooManyRequests: its budget does not allow it now.
        """
        options = _read(key, eviction, how)
        pod = await self._at_once(key, options, how)
        if pod is None:
            return _SUCCESS
        found = self._budgets(pod)
        if len(found) > 1:
            return {**_SUCCESS, "status": "Failure", "message": _SEVERAL, "code": 500}
        verdict = judge(pod, found[0]) if found else Verdict()
        name = found[0]["metadata"]["name"] if found else ""
        if verdict.takes:
            await self._take(found[0], pod, options)
        asked = options.resource_version
        if verdict.pins:
            options = replace(options, resource_version=pod["metadata"]["resourceVersion"])
        try:
            await self._delete(key, options, how)
        except Conflict:
            if verdict.pins and not asked:
                raise still_processed(name) from None
            raise
        return _SUCCESS

    async def _at_once(
        self, key: ObjectKey, options: DeleteOptions, how: WriteOptions
    ) -> Object | None:
        """Ends a pod that no budget counts; the pod if it is not one of those."""
        attempts = 1 if options.resource_version else ATTEMPTS
        for attempt in range(attempts):
            pod = self._registry.get(key)
            if not ignores_budgets(pod):
                return pod
            pinned = options
            is_over = _is_leaving(pod) or pod.get("status", {}).get("phase") in _TERMINAL
            if not is_over and not options.resource_version:
                pinned = replace(options, resource_version=pod["metadata"]["resourceVersion"])
            try:
                await self._delete(key, pinned, how)
            except Conflict:
                if attempt == attempts - 1:
                    raise
                await _pause()
            else:
                return None
        raise AssertionError("the loop returns or raises")

    def _budgets(self, pod: Object) -> list[Object]:
        """The budgets that select a pod."""
        metadata = pod["metadata"]
        rows = self._registry.store.list(GROUP, BUDGETS, namespace=metadata["namespace"]).items
        found = (orjson.loads(row.value) for row in rows)
        labels = metadata.get("labels")
        return [
            one
            for one in found
            if selectors.matches((one.get("spec") or {}).get("selector"), labels)
        ]

    async def _take(self, budget: Object, pod: Object, options: DeleteOptions) -> None:
        """Takes an eviction from what a budget allows, once."""
        metadata = budget["metadata"]
        key = ObjectKey(GROUP, BUDGETS, metadata["namespace"], metadata["name"])
        for attempt in range(ATTEMPTS):
            status = take(budget, pod["metadata"]["name"], time.time())
            if options.dry_run:
                return
            try:
                await self._registry.update(key, {**budget, "status": status}, subresource="status")
            except Conflict:
                if attempt == ATTEMPTS - 1:
                    raise
                await _pause()
                budget = self._registry.get(key)
            else:
                return

    async def _delete(self, key: ObjectKey, options: DeleteOptions, how: WriteOptions) -> None:
        """Says on a pod that it is evicted, and deletes it."""
        if not options.dry_run:
            stored = await self._mark(key, options)
            if options.resource_version:
                options = replace(options, resource_version=stored["metadata"]["resourceVersion"])
        await self._registry.delete(key, options, how)

    async def _mark(self, key: ObjectKey, options: DeleteOptions) -> Object:
        for attempt in range(ATTEMPTS):
            pod = self._registry.get(key)
            _check(pod, options)
            status = pod.setdefault("status", {})
            status["conditions"] = _with_target(status.get("conditions") or [], time.time())
            try:
                return await self._registry.update(key, pod, subresource="status")
            except Conflict:
                if options.resource_version or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the loop returns or raises")


_SUCCESS: Object = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Success",
    "code": 201,
}


def _check(pod: Object, options: DeleteOptions) -> None:
    """Holds preconditions against a pod.

    Raises:
        Conflict: it is another one, or has changed.
        NotFound: it is gone.
    """
    kind = find("", "pods")
    if kind is None:
        raise NotFound("pods are not served")
    metadata = pod["metadata"]
    name, uid, version = metadata["name"], metadata["uid"], metadata["resourceVersion"]
    if options.uid and options.uid != uid:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
        raise failures.conflict(kind, name, why)
    if options.resource_version and options.resource_version != version:
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion "
            f"in record ({version}). The object might have been modified"
        )
        raise failures.conflict(kind, name, why)


def _with_target(conditions: list[Object], now: float) -> list[Object]:
    old = next((one for one in conditions if one.get("type") == "DisruptionTarget"), None)
    is_new = old is None or old.get("status") != "True"
    made = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": timestamp(now)
        if is_new or old is None
        else old["lastTransitionTime"],
    }
    if old is None:
        return [*conditions, made]
    return [made if one is old else one for one in conditions]


def _read(key: ObjectKey, eviction: Object, how: WriteOptions) -> DeleteOptions:
    """How to delete, out of an ``Eviction``.

    Raises:
        BadRequest: it is of another pod, or says two things about dry runs.
        Invalid: it asks for what an eviction cannot do.
    """
    metadata = eviction.get("metadata") or {}
    if type(metadata) is not dict:
        raise BadRequest("metadata: wanted an object")
    if metadata.get("name", "") != key.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    namespace = metadata.get("namespace") or key.namespace
    if namespace != key.namespace:
        raise BadRequest(
            f"the namespace of the provided object does not match the namespace sent on the request: {namespace}"
        )
    body = eviction.get("deleteOptions") or {}
    if type(body) is not dict:
        raise BadRequest("deleteOptions: wanted an object")
    if body.get("ignoreStoreReadErrorWithClusterBreakingPotential"):
        problems = Problems()
        problems.invalid(
            "deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential",
            True,  # noqa: FBT003 - the value that was given
            "can not be set for pod eviction, try after removing the option",
        )
        problems.raise_for(GROUP, "Eviction", key.name)
    options = DeleteOptions.read(body)
    return replace(options, dry_run=is_dry_run(body.get("dryRun")) or how.dry_run)


async def _pause() -> None:
    await asyncio.sleep(_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - not a secret
