# SPDX-License-Identifier: Apache-2.0
"""An autoscaler follows what containers on a node use, and a Service and a budget follow the pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.kubectl import Kubectl
from tests.rig.pods import deployment
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NAME = "web"


def objects() -> list[dict[str, Any]]:
    workload = deployment(NAME, 1)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    target = {"type": "AverageValue", "averageValue": "64Ki"}
    metric = {"type": "Resource", "resource": {"name": "memory", "target": target}}
    return [
        workload,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": NAME},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": NAME}}},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": NAME},
            "spec": {"scaleTargetRef": reference, "maxReplicas": 3, "metrics": [metric]},
        },
    ]


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    with System.temporary("scale") as system:
        found = Kubectl.of(system)
        found(
            "create",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()}),
        )
        yield found


def test_replicas_follow_the_memory_that_pods_use(kubectl: Kubectl):
    wait_until(
        lambda: kubectl.json("get", "deployment", NAME)["status"].get("readyReplicas") == 3,
        90,
        "three are ready",
    )
    status = kubectl.json("get", "hpa.v2.autoscaling", NAME)["status"]
    reasons = {one["type"]: one["status"] for one in status["conditions"]}
    assert reasons["AbleToScale"] == "True"
    assert reasons["ScalingActive"] == "True"
    assert status["desiredReplicas"] == 3


def test_the_service_leads_to_all_of_them(kubectl: Kubectl):
    def addresses() -> set[str]:
        found = kubectl.json("get", "endpoints", NAME).get("subsets") or []
        return {one["ip"] for subset in found for one in subset.get("addresses", ())}

    pods = kubectl.json("get", "pods", "-l", f"app={NAME}")["items"]
    wanted = {pod["status"]["podIP"] for pod in pods}
    wait_until(lambda: addresses() == wanted, 20, "all are listed")
    slices = kubectl.json("get", "endpointslices", "-l", f"kubernetes.io/service-name={NAME}")[
        "items"
    ]
    assert {
        address for one in slices for each in one["endpoints"] for address in each["addresses"]
    } == wanted


def test_the_budget_counts_them(kubectl: Kubectl):
    def counted() -> bool:
        status = kubectl.json("get", "pdb", NAME)["status"]
        return (status["expectedPods"], status["disruptionsAllowed"]) == (3, 1)

    wait_until(counted, 20, "three are expected, one may go")
