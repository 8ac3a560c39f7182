# SPDX-License-Identifier: Apache-2.0
"""Evictions: when a budget lets a pod go, and what it says when not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.api.validation import validate
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.cluster.apiserver.eviction import Evictions
from kedge.cluster.apiserver.server import failure
from kedge.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, TooManyRequests

if TYPE_CHECKING:
    from kedge.cluster.apiserver.registry import Registry

Object = dict[str, Any]
HOW = WriteOptions()


def pods(name: str = "p") -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def budgets(name: str = "b") -> ObjectKey:
    return ObjectKey("policy", "poddisruptionbudgets", "default", name)


async def pod(registry: Registry, name: str = "p", *, phase: str = "Running", ready: bool = True):
    body = {
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    }
    await registry.create(pods(name), body)
    conditions = [{"type": "Ready", "status": str(ready)}]
    await registry.patch_status(pods(name), {"status": {"phase": phase, "conditions": conditions}})


async def budget(
    registry: Registry, name: str = "b", spec: Object | None = None, **status: Any
) -> None:
    selector = {"matchLabels": {"app": "web"}}
    body = {"metadata": {"name": name}, "spec": {"selector": selector, **(spec or {})}}
    await registry.create(budgets(name), body)
    known = {
        "observedGeneration": 1,
        "disruptionsAllowed": 0,
        "currentHealthy": 1,
        "expectedPods": 1,
    }
    await registry.patch_status(budgets(name), {"status": {**known, **status}})


async def evict(
    registry: Registry, name: str = "p", how: WriteOptions = HOW, **options: Any
) -> Object:
    body: Object = {"metadata": {"name": name}, "deleteOptions": options}
    return await Evictions(registry).evict(pods(name), body, how)


async def refused(registry: Registry, **options: Any) -> str:
    """Why a budget refuses."""
    with pytest.raises(TooManyRequests) as caught:
        await evict(registry, **options)
    assert (
        caught.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
    )
    causes: Any = (caught.value.details or {})["causes"]
    assert causes[0]["reason"] == "DisruptionBudget"
    assert "deletionTimestamp" not in registry.get(pods())["metadata"]
    return str(causes[0]["message"])


async def test_a_pod_without_a_budget_goes_and_is_told_why(registry: Registry):
    await pod(registry)
    assert (await evict(registry))["status"] == "Success"
    stored = registry.get(pods())
    assert "deletionTimestamp" in stored["metadata"]
    (target,) = [one for one in stored["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert (target["status"], target["reason"]) == ("True", "EvictionByEvictionAPI")


async def test_a_budget_is_charged_for_each_pod(registry: Registry):
    await pod(registry)
    condition = {"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}
    await budget(registry, disruptionsAllowed=1, conditions=[condition])
    await evict(registry)
    status = registry.get(budgets())["status"]
    assert status["disruptionsAllowed"] == 0
    assert set(status["disruptedPods"]) == {"p"}
    assert status["conditions"][0]["reason"] == "InsufficientPods"


async def test_a_budget_of_none_refuses(registry: Registry):
    await pod(registry)
    await budget(registry, desiredHealthy=1)
    why = await refused(registry)
    assert why == "The disruption budget b needs 1 healthy pods and has 1 currently"


async def test_a_refusal_says_when_to_come_back_only_if_it_knows(registry: Registry):
    await pod(registry)
    await budget(registry, observedGeneration=0)
    with pytest.raises(TooManyRequests) as caught:
        await evict(registry)
    assert ("Retry-After", "10") in failure(caught.value).headers
    await registry.patch_status(budgets(), {"status": {"observedGeneration": 1}})
    with pytest.raises(TooManyRequests) as caught:
        await evict(registry)
    assert failure(caught.value).headers in ([], ())


async def test_a_budget_not_yet_looked_at_refuses(registry: Registry):
    await pod(registry)
    await budget(registry, observedGeneration=0, disruptionsAllowed=5)
    assert "still being processed" in await refused(registry)


async def test_a_budget_that_could_not_be_worked_out_says_why(registry: Registry):
    await pod(registry)
    condition = {
        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "lost",
    }  # fmt: skip
    await budget(registry, conditions=[condition])
    assert "because it failed sync: lost" in await refused(registry)


async def test_a_status_that_cannot_be_is_forbidden(registry: Registry):
    await pod(registry)
    many = {f"p{number}": "2026-01-01T00:00:00Z" for number in range(2001)}
    await budget(registry, disruptionsAllowed=1, disruptedPods=many)
    with pytest.raises(Forbidden, match="DisruptedPods map too big"):
        await evict(registry)


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed"])
async def test_pods_that_serve_nobody_go_whatever_a_budget_says(registry: Registry, phase: str):
    await pod(registry, phase=phase, ready=False)
    await budget(registry)
    await evict(registry)
    try:
        assert "deletionTimestamp" in registry.get(pods())["metadata"]
    except NotFound:
        assert phase != "Pending"


@pytest.mark.parametrize(
    ("spec", "status", "goes"),
    [
        ({}, {"desiredHealthy": 1, "currentHealthy": 1}, True),
        ({}, {"desiredHealthy": 2, "currentHealthy": 1}, False),
        ({}, {"desiredHealthy": 0, "currentHealthy": 0}, False),
        ({"unhealthyPodEvictionPolicy": "IfHealthyBudget"}, {"desiredHealthy": 2}, False),
        ({"unhealthyPodEvictionPolicy": "AlwaysAllow"}, {"desiredHealthy": 2}, True),
    ],
)
async def test_pods_that_are_not_ready_go_by_policy(
    registry: Registry, spec: Object, status: Object, goes: bool
):
    await pod(registry, ready=False)
    await budget(registry, spec=spec, **status)
    if goes:
        await evict(registry)
        assert "deletionTimestamp" in registry.get(pods())["metadata"]
    else:
        await refused(registry)
    assert "disruptedPods" not in registry.get(budgets())["status"]


async def test_two_budgets_are_one_too_many(registry: Registry):
    await pod(registry)
    await budget(registry, disruptionsAllowed=1)
    await budget(registry, "other", disruptionsAllowed=1)
    answer = await evict(registry)
    assert (answer["status"], answer["code"]) == ("Failure", 500)
    assert "more than one PodDisruptionBudget" in answer["message"]
    assert "deletionTimestamp" not in registry.get(pods())["metadata"]


async def test_a_budget_that_selects_nothing_protects_nothing(registry: Registry):
    await pod(registry)
    await budget(registry, spec={"selector": {"matchLabels": {"app": "other"}}})
    await evict(registry)
    assert "deletionTimestamp" in registry.get(pods())["metadata"]


async def test_a_dry_run_changes_nothing(registry: Registry):
    await pod(registry)
    await budget(registry, disruptionsAllowed=1)
    before = registry.store.revision
    await evict(registry, how=WriteOptions(dry_run=True))
    await evict(registry, dryRun=["All"])
    assert registry.store.revision == before


async def test_many_at_once_never_get_more_than_is_allowed(registry: Registry):
    for number in range(6):
        await pod(registry, f"p{number}")
    await budget(registry, disruptionsAllowed=2, currentHealthy=6, desiredHealthy=4)
    done = await asyncio.gather(
        *(evict(registry, f"p{number}") for number in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, TooManyRequests) for one in done) == 4
    gone = [one for one in registry.list("", "pods") if "deletionTimestamp" in one["metadata"]]
    assert len(gone) == 2


async def test_preconditions_are_held(registry: Registry):
    await pod(registry)
    with pytest.raises(Conflict):
        await evict(registry, preconditions={"uid": "another"})
    with pytest.raises(Conflict):
        await evict(registry, preconditions={"resourceVersion": "1"})
    version = registry.get(pods())["metadata"]["resourceVersion"]
    await evict(registry, preconditions={"resourceVersion": version})


async def test_an_eviction_is_of_the_pod_in_its_path(registry: Registry):
    await pod(registry)
    with pytest.raises(BadRequest, match="name in URL does not match name in Eviction object"):
        await Evictions(registry).evict(pods(), {"metadata": {"name": "q"}}, HOW)
    with pytest.raises(NotFound):
        await evict(registry, "nobody")


# --- the rules of budgets


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"minAvailable": 1, "maxUnavailable": 1}, "spec"),
        ({"minAvailable": -1}, "spec.minAvailable"),
        ({"maxUnavailable": "x"}, "spec.maxUnavailable"),
        ({"maxUnavailable": "101%"}, "spec.maxUnavailable"),
        ({"unhealthyPodEvictionPolicy": "Never"}, "spec.unhealthyPodEvictionPolicy"),
        ({"selector": {"matchLabels": {"a b": "c"}}}, "spec.selector.matchLabels"),
    ],
)
def test_budgets_that_say_nothing_sensible_are_refused(spec: Object, field: str):
    kind = find("policy", "poddisruptionbudgets")
    assert kind is not None
    with pytest.raises(Invalid) as caught:
        validate(kind, {"metadata": {"name": "b", "namespace": "default"}, "spec": spec})
    causes: Any = (caught.value.details or {})["causes"]
    assert [cause["field"] for cause in causes] == [field]
