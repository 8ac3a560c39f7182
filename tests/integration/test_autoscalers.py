# SPDX-License-Identifier: Apache-2.0
"""Autoscalers with the other controllers over a store, and metrics that a test makes up."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers import Config
from kedge.cluster.machinery.times import text_of
from tests.fakes.control_plane import MERGE, ControlPlane, key

Object = dict[str, Any]
AUTOSCALER = ObjectKey("autoscaling", "horizontalpodautoscalers", "default", "web")


class Load:
    """What each pod of the namespace uses of the processor."""

    def __init__(self) -> None:
        self.plane: ControlPlane | None = None
        self.cpu = "100m"
        self.asked: list[str] = []

    async def ask(self, path: str) -> Object:
        self.asked.append(path)
        assert self.plane is not None
        return {"items": [self.of(pod) for pod in self.plane.ready()]}

    def of(self, pod: Object) -> Object:
        return {
            "metadata": {"name": pod["metadata"]["name"]},
            "timestamp": text_of(time.time()),
            "window": "1s",
            "containers": [{"name": "c", "usage": {"cpu": self.cpu}}],
        }


@pytest.fixture
def load() -> Load:
    return Load()


@pytest.fixture
def controller_config(load: Load) -> Config:
    return Config(ca_pem="CA", ask=load.ask, autoscale_seconds=0.05)


async def scaled(plane: ControlPlane, load: Load, **spec: Any) -> None:
    """A Deployment of two pods that have run for long, and its autoscaler."""
    load.plane = plane
    await plane.node("n1")
    resources = {"requests": {"cpu": "100m"}}
    containers = [{"name": "c", "image": "v1", "resources": resources}]
    await plane.workload("Deployment", "web", replicas=2, pod={"containers": containers})
    await plane.until(lambda: len(plane.ready()) == 2)
    for pod in plane.ready():
        await long_ago(plane, pod)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    body = {
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": reference, "maxReplicas": 5, **spec},
    }
    await plane.registry.create(AUTOSCALER, body)


async def long_ago(plane: ControlPlane, pod: Object) -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": text_of(time.time() - 1800)}
    others = [one for one in pod["status"]["conditions"] if one["type"] != "Ready"]
    status = {"startTime": text_of(time.time() - 3600), "conditions": [*others, ready]}
    where = key("pods", pod["metadata"]["name"])
    await plane.registry.patch(where, {"status": status}, MERGE, subresource="status")


def status(plane: ControlPlane) -> Object:
    found: Object = plane.registry.get(AUTOSCALER).get("status", {})
    return found


def reasons(plane: ControlPlane) -> dict[str, str]:
    return {one["type"]: one["reason"] for one in status(plane).get("conditions", ())}


def replicas(plane: ControlPlane) -> int:
    found = plane.get("deployments", "web")
    assert found is not None
    count: int = found["spec"]["replicas"]
    return count


async def test_load_brings_replicas_up_to_the_most(plane: ControlPlane, load: Load):
    load.cpu = "400m"
    await scaled(plane, load)
    await plane.until(lambda: replicas(plane) == 5)
    await plane.until(lambda: status(plane).get("desiredReplicas") == 5)
    assert status(plane)["lastScaleTime"]
    assert "labelSelector=app%3Dweb" in load.asked[0]
    await plane.until(
        lambda: any(one["reason"] == "SuccessfulRescale" for one in plane.all("events"))
    )


async def test_load_that_is_right_changes_nothing(plane: ControlPlane, load: Load):
    load.cpu = "80m"
    await scaled(plane, load)
    await plane.until(lambda: reasons(plane).get("ScalingActive") == "ValidMetricFound")
    await plane.until(lambda: status(plane).get("currentReplicas") == 2)
    assert reasons(plane)["AbleToScale"] == "ReadyForNewScale"
    (metric,) = status(plane)["currentMetrics"]
    assert metric["resource"]["current"] == {"averageUtilization": 80, "averageValue": "80m"}
    revision = plane.store.revision
    asked = len(load.asked)
    await plane.until(lambda: len(load.asked) > asked + 3)
    assert plane.store.revision == revision
    assert replicas(plane) == 2


async def test_going_down_waits_unless_told_not_to(plane: ControlPlane, load: Load):
    load.cpu = "1m"
    await scaled(plane, load)
    await plane.until(lambda: reasons(plane).get("AbleToScale") == "ScaleDownStabilized")
    assert replicas(plane) == 2
    patch = {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}
    await plane.registry.patch(AUTOSCALER, patch, MERGE)
    await plane.until(lambda: replicas(plane) == 1)


async def test_what_has_no_scale_or_is_not_there_is_said_so(plane: ControlPlane, load: Load):
    await scaled(plane, load)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "missing"}
    await plane.registry.patch(AUTOSCALER, {"spec": {"scaleTargetRef": reference}}, MERGE)
    await plane.until(lambda: reasons(plane).get("AbleToScale") == "FailedGetScale")


async def test_two_autoscalers_of_the_same_pods_do_nothing(plane: ControlPlane, load: Load):
    load.cpu = "80m"
    await scaled(plane, load)
    other = ObjectKey("autoscaling", "horizontalpodautoscalers", "default", "other")
    spec = plane.registry.get(AUTOSCALER)["spec"]
    await plane.registry.create(other, {"metadata": {"name": "other"}, "spec": spec})
    await plane.until(lambda: reasons(plane).get("ScalingActive") == "AmbiguousSelector")


async def test_a_target_of_none_is_left_alone(plane: ControlPlane, load: Load):
    await scaled(plane, load)
    await plane.registry.patch(key("deployments", "web"), {"spec": {"replicas": 0}}, MERGE)
    await plane.until(lambda: reasons(plane).get("ScalingActive") == "ScalingDisabled")
    assert replicas(plane) == 0
