# SPDX-License-Identifier: Apache-2.0
"""Quotas over a whole control plane: counted when they are made, charged, and given back."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import orjson
import pytest

from kedge.api import amounts, usage
from kedge.cluster.machinery.conditions import find
from kedge.errors import ApiError
from tests.fakes.control_plane import MERGE, ControlPlane, key


async def limit(plane: ControlPlane, hard: dict[str, str], **spec: Any) -> None:
    body = {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}
    await plane.registry.create(key("resourcequotas", "q"), body)
    await plane.until(lambda: status(plane).get("hard") == hard)


def status(plane: ControlPlane) -> dict[str, Any]:
    found = plane.get("resourcequotas", "q")
    assert found is not None
    result: dict[str, Any] = found.get("status") or {}
    return result


def used(plane: ControlPlane) -> dict[str, str]:
    found: dict[str, str] = status(plane).get("used") or {}
    return found


def config_map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


async def test_what_is_there_is_counted_and_what_goes_is_given_back(plane: ControlPlane):
    await plane.registry.create(key("configmaps", "one"), config_map("one"))
    await limit(plane, {"configmaps": "3", "count/configmaps": "3", "count/secrets": "1"})
    assert used(plane) == {"configmaps": "2", "count/configmaps": "2", "count/secrets": "0"}
    await plane.registry.create(key("configmaps", "two"), config_map("two"))
    assert used(plane)["configmaps"] == "3"
    await plane.registry.delete(key("configmaps", "one"), {})
    await plane.until(lambda: used(plane)["configmaps"] == "2")


async def test_a_quota_that_changes_is_counted_anew(plane: ControlPlane):
    await limit(plane, {"secrets": "5"})
    hard = {"secrets": None, "services": "2", "count/pods": "4"}
    await plane.registry.patch(key("resourcequotas", "q"), {"spec": {"hard": hard}}, MERGE)
    await plane.until(lambda: used(plane) == {"services": "1", "count/pods": "0"})
    assert status(plane)["hard"] == {"services": "2", "count/pods": "4"}


RESOURCES = {"requests": {"cpu": "500m"}}
CONTAINERS = [{"name": "c", "image": "v1", "resources": RESOURCES}]


async def test_pods_that_have_ended_count_as_objects_only(plane: ControlPlane):
    await plane.node("n1")
    await limit(plane, {"pods": "2", "count/pods": "9", "requests.cpu": "1"})
    for name in ("one", "two"):
        body = {"metadata": {"name": name}, "spec": {"containers": CONTAINERS}}
        await plane.registry.create(key("pods", name), body)
    assert used(plane) == {"pods": "2", "count/pods": "2", "requests.cpu": "1"}
    await plane.registry.patch_status(key("pods", "one"), {"status": {"phase": "Failed"}})
    wanted = {"pods": "1", "count/pods": "2", "requests.cpu": "500m"}
    await plane.until(lambda: used(plane) == wanted)


HARD = {"pods": "12", "requests.cpu": "2", "count/pods": "20", "services.nodeports": "6", "configmaps": "8"}  # fmt: skip
COUNTED = (("", "pods"), ("", "services"), ("", "configmaps"))


def counted(plane: ControlPlane) -> dict[str, str]:
    """What is used, by looking at every object."""
    total = dict.fromkeys(HARD, "0")
    for resource in COUNTED:
        for row in plane.store.list(*resource, namespace="default").items:
            one = usage.usage(resource, orjson.loads(row.value), time.time())
            total = amounts.add(total, amounts.only(one, HARD))
    return total


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_comes_and_goes_at_once_is_counted_right(plane: ControlPlane, seed: int):
    """Charges, refunds and recounts race; nothing exceeds, and in the end all agree."""
    chance = random.Random(seed)
    await limit(plane, HARD)

    async def act(number: int) -> None:
        name = f"x{number % 15}"
        cpu = chance.choice(["100m", "250m", "400m"])
        container = {"name": "c", "image": "v1", "resources": {"requests": {"cpu": cpu}}}
        ports = [{"name": f"p{port}", "port": port} for port in range(1, chance.randint(2, 4))]
        bodies = {
            "pods": {"containers": [container]},
            "services": {"type": chance.choice(["NodePort", "ClusterIP"]), "ports": ports},
            "configmaps": None,
        }
        resource = chance.choice(sorted(bodies))
        where, spec = key(resource, name), bodies[resource]
        match chance.choice(["create", "create", "delete", "change"]):
            case "create":
                body = {"metadata": {"name": name}, **({"spec": spec} if spec else {})}
                await plane.registry.create(where, body)
            case "delete":
                await plane.registry.delete(where, {})
            case "change" if resource == "services":
                await plane.registry.patch(where, {"spec": spec}, MERGE)
            case "change" if resource == "pods":
                phase = {"status": {"phase": chance.choice(["Failed", "Succeeded"])}}
                await plane.registry.patch_status(where, phase)
            case _:
                await plane.registry.patch(where, {"metadata": {"labels": {"a": cpu}}}, MERGE)

    for turn in range(15):
        answers = await asyncio.gather(
            *(act(turn + number) for number in range(20)), return_exceptions=True
        )
        odd = [one for one in answers if one is not None and not isinstance(one, ApiError)]
        assert not odd
        over = amounts.exceeding(counted(plane), HARD)
        assert not over, over
    await plane.until(lambda: amounts.only(used(plane), HARD) == counted(plane))


async def test_a_workload_that_a_quota_holds_back_says_why(plane: ControlPlane):
    await plane.node("n1")
    await limit(plane, {"pods": "2", "requests.cpu": "1"})
    await plane.deploy(replicas=3, pod={"containers": CONTAINERS})
    await plane.until(lambda: len(plane.ready()) == 2)

    def failure() -> dict[str, Any]:
        (replica_set,) = plane.all("replicasets")
        found = (replica_set.get("status") or {}).get("conditions")
        return dict(find(found, "ReplicaFailure") or {})

    await plane.until(lambda: failure().get("reason") == "FailedCreate")
    assert "exceeded quota: q, requested: pods=1,requests.cpu=500m" in failure()["message"]
