# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission import priority
from kedge.errors import Forbidden

KEY = ObjectKey("", "pods", "default", "p")


async def made(registry, **spec):
    containers = [{"name": "c", "image": "i:1"}]
    body = {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}
    return (await registry.create(KEY, body))["spec"]


async def has_class(registry, name, value, **fields):
    key = ObjectKey(priority.GROUP, priority.RESOURCE, "", name)
    await registry.create(key, {"metadata": {"name": name}, "value": value, **fields})


async def test_a_pod_without_a_class_has_no_priority(registry):
    spec = await made(registry)
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert "priorityClassName" not in spec


async def test_a_pod_gets_the_value_and_the_policy_of_its_class(registry):
    await has_class(registry, "high", 1000, preemptionPolicy="Never")
    spec = await made(registry, priorityClassName="high")
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")


async def test_the_lowest_default_class_counts_for_pods_that_name_none(registry):
    await has_class(registry, "most", 20, globalDefault=True)
    await has_class(registry, "least", 10, globalDefault=True)
    spec = await made(registry)
    assert (spec["priority"], spec["priorityClassName"]) == (10, "least")


async def test_a_class_must_exist_and_may_not_be_contradicted(registry):
    with pytest.raises(Forbidden, match="no PriorityClass with name nobody was found"):
        await made(registry, priorityClassName="nobody")
    await has_class(registry, "high", 1000)
    with pytest.raises(Forbidden, match="must not be provided in pod spec"):
        await made(registry, priorityClassName="high", priority=5)


async def test_a_default_class_counts_from_when_it_is_written_until_it_is_removed(registry):
    key = ObjectKey(priority.GROUP, priority.RESOURCE, "", "usual")

    async def number():
        containers = [{"name": "c", "image": "i:1"}]
        body = {"metadata": {"generateName": "p-"}, "spec": {"containers": containers}}
        return (await registry.create(KEY._replace(name=""), body))["spec"]["priority"]

    assert await number() == 0
    await has_class(registry, "usual", 7, globalDefault=True)
    assert await number() == 7
    await registry.patch(key, {"globalDefault": False})
    assert await number() == 0
    await registry.patch(key, {"globalDefault": True})
    assert await number() == 7
    await registry.delete(key)
    assert await number() == 0
