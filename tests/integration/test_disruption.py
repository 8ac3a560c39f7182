# SPDX-License-Identifier: Apache-2.0
"""Budgets and evictions together, with the controllers over a store and kubelets that run nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.cluster.apiserver.eviction import Evictions
from kedge.errors import TooManyRequests
from tests.fakes.control_plane import MERGE, ControlPlane, key

if TYPE_CHECKING:
    from collections.abc import Mapping

BUDGET = ObjectKey("policy", "poddisruptionbudgets", "default", "web")


async def budget(plane: ControlPlane, **spec: Any) -> None:
    wanted = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    await plane.registry.create(BUDGET, {"metadata": {"name": "web"}, "spec": wanted})


def status(plane: ControlPlane) -> Mapping[str, Any]:
    found: Mapping[str, Any] = plane.registry.get(BUDGET).get("status", {})
    return found


def counts(plane: ControlPlane) -> tuple[int, int, int, int]:
    found = status(plane)
    names = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
    expected, desired, current, allowed = (found.get(name, -1) for name in names)
    return expected, desired, current, allowed


async def evict(plane: ControlPlane) -> None:
    name = plane.ready()[0]["metadata"]["name"]
    body = {"metadata": {"name": name}}
    await Evictions(plane.registry).evict(key("pods", name), body, WriteOptions())


async def test_a_deployment_is_never_below_its_budget(plane: ControlPlane):
    await plane.node("n1")
    await plane.deploy(replicas=4)
    await budget(plane, maxUnavailable="25%")
    await plane.until(lambda: counts(plane) == (4, 3, 4, 1))
    await evict(plane)
    with pytest.raises(TooManyRequests):
        await evict(plane)
    await plane.until(lambda: counts(plane) == (4, 3, 4, 1))
    assert not status(plane).get("disruptedPods")
    await evict(plane)


async def test_a_budget_follows_the_scale_of_the_owner(plane: ControlPlane):
    await plane.node("n1")
    await plane.deploy(replicas=2)
    await budget(plane, minAvailable="50%")
    await plane.until(lambda: counts(plane) == (2, 1, 2, 1))
    await plane.registry.patch(key("deployments", "web"), {"spec": {"replicas": 5}}, MERGE)
    await plane.until(lambda: counts(plane) == (5, 3, 5, 2))


async def test_a_budget_over_pods_of_a_daemon_set_cannot_be_worked_out(plane: ControlPlane):
    await plane.node("n1")
    await plane.workload("DaemonSet", "web")
    await budget(plane, maxUnavailable=1)
    await plane.until(
        lambda: "daemonsets.apps does not implement the scale subresource" in str(status(plane))
    )
    assert status(plane)["disruptionsAllowed"] == 0
    await plane.registry.patch(BUDGET, {"spec": {"maxUnavailable": None, "minAvailable": 1}}, MERGE)
    await plane.until(lambda: status(plane)["conditions"][0]["reason"] == "InsufficientPods")
