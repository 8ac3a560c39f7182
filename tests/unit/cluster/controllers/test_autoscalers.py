# SPDX-License-Identifier: Apache-2.0
"""How many replicas metrics ask for, and how far and how fast an autoscaler goes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api import defaults
from kedge.api.kinds import find
from kedge.api.validation import validate
from kedge.cluster.controllers.autoscalers import limits, metrics, samples
from kedge.cluster.controllers.autoscalers.look import tolerances
from kedge.cluster.controllers.autoscalers.replicas import (
    Scene,
    Tolerances,
    Unknown,
    by_ratio,
    by_share,
    by_utilization,
    by_value,
    group,
)
from kedge.cluster.controllers.autoscalers.samples import Sample
from kedge.cluster.machinery.times import text_of
from kedge.errors import Invalid, NotFound

Object = dict[str, Any]
NOW = 1_000_000.0
OLD = NOW - 3600


def pod(
    name: str,
    *,
    ready: bool = True,
    phase: str = "Running",
    started: float = OLD,
    moved: float = OLD + 60,
    cpu: str | None = "100m",
    deleted: bool = False,
) -> Object:
    metadata: Object = {"name": name, "namespace": "default", "labels": {"app": "web"}}
    if deleted:
        metadata["deletionTimestamp"] = text_of(NOW)
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": text_of(moved)}
    return {
        "metadata": metadata,
        "spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu} if cpu else {}}}]
        },
        "status": {"phase": phase, "startTime": text_of(started), "conditions": [condition]},
    }


def used(**values: int) -> dict[str, Sample]:
    return {name: Sample(value, NOW - 5, 15.0) for name, value in values.items()}


def ask_cpu(pods: list[Object], values: dict[str, Sample], part: int = 50) -> int:
    scene = Scene(pods, len(pods), Tolerances(), NOW)
    return by_utilization(scene, values, ("cpu", "", part)).replicas


# --- replicas


@pytest.mark.parametrize(
    ("use", "wanted"), [(50, 3), (52, 3), (56, 4), (100, 6), (25, 2), (46, 3), (1, 1)]
)
def test_the_part_that_is_used_decides(use: int, wanted: int):
    pods = [pod(name) for name in "abc"]
    assert ask_cpu(pods, used(a=use, b=use, c=use)) == wanted


def test_pods_of_whom_nothing_is_known_make_for_smaller_steps():
    pods = [pod(name) for name in "abc"]
    assert ask_cpu(pods, used(a=100, b=100, c=100)) == 6
    assert ask_cpu(pods, used(a=100, b=100)) == 4
    assert ask_cpu(pods, used(a=10, b=10, c=10)) == 1
    assert ask_cpu(pods, used(a=10, b=10)) == 3


def test_pods_that_have_just_begun_count_as_idle_on_the_way_up():
    pods = [pod("a"), pod("b"), pod("c", ready=False, started=NOW - 20, moved=NOW - 20)]
    values = used(a=100, b=100, c=1000)
    assert ask_cpu(pods, values) == 4


def test_pods_that_end_or_have_failed_are_left_out():
    pods = [pod("a"), pod("b"), pod("c", deleted=True), pod("d", phase="Failed", ready=False)]
    assert ask_cpu(pods, used(a=100, b=100, c=5000, d=5000)) == 4


@pytest.mark.parametrize(
    ("fields", "sampled", "counts"),
    [
        ({}, NOW - 5, True),
        ({"ready": False}, NOW - 5, True),
        ({"ready": False, "moved": OLD + 10}, NOW - 5, False),
        ({"started": NOW - 100, "moved": NOW - 90}, NOW - 5, True),
        ({"started": NOW - 100, "moved": NOW - 10}, NOW - 5, False),
        ({"started": NOW - 100, "moved": NOW - 90, "ready": False}, NOW - 5, False),
        ({"phase": "Pending"}, NOW - 5, False),
    ],
)
def test_the_processor_of_pods_that_begin_says_nothing(
    fields: Object, sampled: float, counts: bool
):
    found = group([pod("a", **fields)], {"a": Sample(1, sampled, 15.0)}, "cpu", NOW)
    assert (found.ready, found.unready) == ((1, set()) if counts else (0, {"a"}))


def test_what_requests_nothing_cannot_be_measured_by_requests():
    pods = [pod("a", cpu=None)]
    with pytest.raises(Unknown, match="missing request for cpu in container c of Pod a"):
        ask_cpu(pods, used(a=1))
    scene = Scene([pod("a")], 1, Tolerances(), NOW)
    with pytest.raises(Unknown, match="container d not found in Pod a"):
        by_utilization(scene, used(a=1), ("cpu", "d", 50))
    with pytest.raises(Unknown, match="did not receive metrics for targeted pods"):
        by_utilization(scene, {}, ("cpu", "", 50))


def test_values_and_single_figures_are_compared_to_their_targets():
    scene = Scene([pod("a"), pod("b")], 2, Tolerances(), NOW)
    assert by_value(scene, used(a=3000, b=5000), ("", 2000)).replicas == 4
    assert by_ratio(1.05, 3, 3, Tolerances()) == 3
    assert by_ratio(2.0, 3, 3, Tolerances()) == 6
    assert by_share(9000, 2000, 3, Tolerances()).replicas == 5
    assert by_share(6100, 2000, 3, Tolerances()).replicas == 3


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 2000), min_size=1),
    st.integers(1, 200),
)
def test_with_everything_known_it_is_the_formula_of_the_documentation(
    uses: dict[str, int], part: int
):
    pods = [pod(name) for name in uses]
    average = sum(uses.values()) // len(uses)
    ratio = (sum(uses.values()) * 100 // (100 * len(uses))) / part
    wanted = len(pods) if 0.9 <= ratio <= 1.1 else math.ceil(len(pods) * ratio)
    assert ask_cpu(pods, used(**uses), part) == wanted
    scene = Scene(pods, len(pods), Tolerances(), NOW)
    assert by_utilization(scene, used(**uses), ("cpu", "", part)).usage == average


# --- limits


def spec(**fields: Any) -> Object:
    obj: Object = {"spec": {"maxReplicas": 100, **fields}}
    defaults.apply("autoscaling", "horizontalpodautoscalers", obj)
    wanted: Object = obj["spec"]
    return wanted


def test_down_waits_for_the_highest_of_five_minutes():
    history = limits.History([(8, NOW - 200)])
    found = limits.limit(spec(), history, 8, 2, NOW)
    assert (found.replicas, found.stabilized) == (8, limits.STABLE_DOWN)
    later = limits.limit(spec(), history, 8, 2, NOW + 150)
    assert later.replicas == 2


@pytest.mark.parametrize(
    ("current", "wanted", "replicas", "why"),
    [
        (3, 30, 6, limits.TOO_FAST_UP),
        (1, 30, 4, limits.TOO_FAST_UP),
        (80, 150, 100, limits.TOO_MANY),
        (3, 1, 2, limits.TOO_FEW),
        (3, 4, 4, limits.WITHIN),
    ],
)
def test_numbers_stay_within_their_range(
    current: int, wanted: int, replicas: int, why: tuple[str, str]
):
    found = limits.limit(spec(minReplicas=2), limits.History(), current, wanted, NOW)
    assert (found.replicas, found.range, found.is_limited) == (replicas, why, replicas != wanted)


def test_policies_bound_how_much_changes_in_a_period():
    rules = {
        "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        "scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }
    wanted, history = spec(behavior=rules), limits.History()
    first = limits.limit(wanted, history, 4, 20, NOW)
    assert (first.replicas, first.range) == (6, limits.TOO_FAST_UP)
    history.scaled(4, 6, NOW)
    assert limits.limit(wanted, history, 6, 20, NOW + 30).replicas == 6
    assert limits.limit(wanted, history, 6, 20, NOW + 61).replicas == 8
    down = limits.limit(wanted, limits.History(), 10, 1, NOW)
    assert (down.replicas, down.range) == (5, limits.TOO_FAST_DOWN)


@pytest.mark.parametrize(("select", "wanted"), [("Max", 8), ("Min", 5), ("Disabled", 4)])
def test_one_of_the_policies_is_chosen(select: str, wanted: int):
    policies = [
        {"type": "Pods", "value": 1, "periodSeconds": 60},
        {"type": "Percent", "value": 100, "periodSeconds": 60},
    ]
    rules = {"selectPolicy": select, "policies": policies}
    assert limits.up_limit(rules, limits.History(), 4, NOW) == wanted


def test_a_window_upwards_takes_the_lowest():
    rules = {"scaleUp": {"stabilizationWindowSeconds": 60}}
    history = limits.History([(5, NOW - 30)])
    found = limits.limit(spec(behavior=rules), history, 4, 8, NOW)
    assert (found.replicas, found.stabilized) == (5, limits.STABLE_UP)


def test_tolerances_are_of_each_direction():
    assert tolerances(spec()) == Tolerances(0.1, 0.1)
    rules = {"scaleDown": {"tolerance": "500m"}, "scaleUp": {"tolerance": "0"}}
    assert tolerances(spec(behavior=rules)) == Tolerances(0.5, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 600)), max_size=20),
    st.integers(1, 30),
    st.integers(0, 60),
)
def test_a_step_never_leaves_the_range_nor_goes_the_other_way(
    asked: list[tuple[int, float]], current: int, wanted: int
):
    for behavior in (None, {"scaleUp": {}, "scaleDown": {}}):
        wish = spec(minReplicas=1, maxReplicas=40, **({"behavior": behavior} if behavior else {}))
        history = limits.History([(number, NOW - age) for number, age in asked])
        found = limits.limit(wish, history, current, wanted, NOW).replicas
        assert 1 <= found <= 40
        if behavior and wanted >= current:
            assert found >= current
        if behavior and wanted <= current:
            assert found <= current


# --- samples and metrics


def test_answers_are_read_as_figures():
    item = {
        "metadata": {"name": "a"},
        "timestamp": text_of(NOW),
        "window": "1m15.5s",
        "containers": [
            {"name": "x", "usage": {"cpu": "1500000n", "memory": "1Ki"}},
            {"name": "y", "usage": {"cpu": "2m", "memory": "1Ki"}},
        ],
    }
    assert samples.of_pods([item], "cpu") == {"a": Sample(4, NOW, 75.5)}
    assert samples.of_pods([item], "cpu", "y") == {"a": Sample(2, NOW, 75.5)}
    assert samples.of_pods([item], "memory")["a"].value == 2_048_000
    assert samples.of_pods([item], "disk") == {}
    assert samples.of_pods([{**item, "containers": []}], "cpu") == {}
    assert samples.quantity("memory", 52428800 * 1000) == "50Mi"
    assert samples.quantity("cpu", 1500) == "1500m"


def target(pods: list[Object]) -> metrics.Target:
    scene = Scene(pods, len(pods), Tolerances(), NOW)
    return metrics.Target("default", "app=web", scene, len(pods))


def cpu(**wanted: Any) -> Object:
    return {"type": "Resource", "resource": {"name": "cpu", "target": wanted}}


async def test_a_resource_is_asked_for_with_the_selector():
    asked: list[str] = []

    async def ask(path: str) -> Object:
        asked.append(path)
        item = {
            "metadata": {"name": "a"},
            "timestamp": text_of(NOW),
            "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": "200m"}}],
        }
        return {"items": [item]}

    found = await metrics.measure(cpu(averageUtilization=50), target([pod("a")]), ask)
    assert asked == ["/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dweb"]
    assert (found.replicas, found.name) == (
        4,
        "cpu resource utilization (percentage of request)",
    )
    assert found.status["resource"]["current"] == {
        "averageUtilization": 200,
        "averageValue": "200m",
    }


async def test_what_cannot_be_measured_says_why():
    async def nothing(path: str) -> Object:
        return {"items": []}

    async def refuse(path: str) -> Object:
        raise NotFound("the server could not find the requested resource")

    with pytest.raises(metrics.Failure) as caught:
        await metrics.measure(cpu(averageUtilization=50), target([pod("a")]), nothing)
    assert caught.value.reason == "FailedGetResourceMetric"
    assert str(caught.value) == (
        "failed to get cpu utilization: unable to get metrics for resource cpu: "
        "no metrics returned from resource metrics API"
    )
    custom = {
        "type": "Pods",
        "pods": {
            "metric": {"name": "rps"},
            "target": {"type": "AverageValue", "averageValue": "1"},
        },
    }
    with pytest.raises(metrics.Failure) as caught:
        await metrics.measure(custom, target([pod("a")]), refuse)
    assert "unable to fetch metrics from custom metrics API" in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "path", "replicas"),
    [
        (
            {
                "type": "Object",
                "object": {
                    "describedObject": {
                        "kind": "Ingress", "name": "i", "apiVersion": "networking.k8s.io/v1",
                    },
                    "metric": {"name": "hits"},
                    "target": {"type": "Value", "value": "3"},
                },
            },
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/ingresses.networking.k8s.io/i/hits?",
            4,
        ),
        (
            {
                "type": "External",
                "external": {
                    "metric": {"name": "queue", "selector": {"matchLabels": {"q": "a"}}},
                    "target": {"type": "AverageValue", "averageValue": "2"},
                },
            },
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue?labelSelector=q%3Da",
            3,
        ),
    ],
)  # fmt: skip
async def test_metrics_of_other_apis_are_asked_for_where_they_are_served(
    metric: Object, path: str, replicas: int
):
    asked: list[str] = []

    async def ask(where: str) -> Object:
        asked.append(where)
        return {"items": [{"value": "6", "describedObject": {"name": "i"}}]}

    found = await metrics.measure(metric, target([pod("a"), pod("b")]), ask)
    assert (asked, found.replicas) == ([path], replicas)


# --- rules


def complaints(**fields: Any) -> dict[str, str]:
    kind = find("autoscaling", "horizontalpodautoscalers")
    assert kind is not None
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    obj: Object = {"metadata": {"name": "web", "namespace": "default"}}
    obj["spec"] = {"scaleTargetRef": reference, "maxReplicas": 3, **fields}
    defaults.apply("autoscaling", "horizontalpodautoscalers", obj)
    try:
        validate(kind, obj)
    except Invalid as error:
        causes: Any = (error.details or {})["causes"]
        return {cause["field"]: cause["message"] for cause in causes}
    return {}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, ""),
        ({"behavior": {"scaleUp": {}}}, ""),
        ({"maxReplicas": 0}, "spec.maxReplicas"),
        ({"minReplicas": 5}, "spec.maxReplicas"),
        ({"minReplicas": 0}, "spec.minReplicas"),
        ({"scaleTargetRef": {"kind": "Pod", "name": "a", "apiVersion": "v1"}}, "spec.scaleTargetRef.apiVersion"),
        ({"metrics": [{"type": "Resource"}]}, "spec.metrics[0].resource"),
        ({"metrics": [cpu(type="Utilization")]}, "spec.metrics[0].resource.target.averageUtilization"),
        ({"metrics": [cpu(type="None", averageUtilization=1)]}, "spec.metrics[0].resource.target.type"),
        ({"behavior": {"scaleUp": {"policies": []}}}, "spec.behavior.scaleUp.policies"),
        (
            {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601}}},
            "spec.behavior.scaleDown.stabilizationWindowSeconds",
        ),
        ({"behavior": {"scaleDown": {"tolerance": "-1"}}}, "spec.behavior.scaleDown.tolerance"),
    ],
)  # fmt: skip
def test_autoscalers_that_make_no_sense_are_refused(fields: Object, path: str):
    assert list(complaints(**fields)) == ([path] if path else [])
