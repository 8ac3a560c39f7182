# SPDX-License-Identifier: Apache-2.0
"""What ``pods/ephemeralcontainers`` and ``pods/resize`` change, and what they do not."""

from __future__ import annotations

import pytest

from kedge.api import patches
from kedge.api.keys import ObjectKey
from kedge.errors import Invalid

KEY = ObjectKey("", "pods", "default", "p")
BURSTABLE = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}


async def made(registry, **fields):
    container = {"name": "c", "image": "i:1", **fields}
    return await registry.create(
        KEY, {"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    )


def added(**fields):
    return {
        "spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox:1", **fields}]},
        "metadata": {"labels": {"ignored": "yes"}},
    }


async def through(registry, subresource, patch):
    return await registry.patch(KEY, patch, patches.STRATEGIC, subresource=subresource)


async def test_an_ephemeral_container_is_added_with_defaults_and_nothing_else(registry):
    await made(registry)
    pod = await through(registry, "ephemeralcontainers", added(targetContainerName="c"))
    (one,) = pod["spec"]["ephemeralContainers"]
    assert (one["name"], one["imagePullPolicy"]) == ("debug", "IfNotPresent")
    assert one["terminationMessagePath"] == "/dev/termination-log"
    assert "labels" not in pod["metadata"]
    assert pod["metadata"]["generation"] == 2


async def test_an_ephemeral_container_stays_as_it_is(registry):
    await made(registry)
    await through(registry, "ephemeralcontainers", added())
    with pytest.raises(Invalid, match="may not be changed"):
        await through(registry, "ephemeralcontainers", added(image="other:1"))
    pod = registry.get(KEY)
    pod["spec"]["ephemeralContainers"] = []
    with pytest.raises(Invalid, match="may not be removed"):
        await registry.update(KEY, pod, subresource="ephemeralcontainers")


@pytest.mark.parametrize(
    "fields",
    [
        {"ports": [{"containerPort": 80}]},
        {"targetContainerName": "nobody"},
        {"name": "c"},
        {"resources": {"limits": {"cpu": "1"}}},
    ],
)
async def test_an_ephemeral_container_has_no_ports_resources_or_foreign_names(registry, fields):
    await made(registry)
    with pytest.raises(Invalid):
        await through(registry, "ephemeralcontainers", added(**fields))


async def test_ephemeral_containers_are_refused_in_an_ordinary_update(registry):
    await made(registry)
    with pytest.raises(Invalid):
        await registry.patch(KEY, added(), patches.STRATEGIC)


async def test_resize_changes_cpu_and_memory_only(registry):
    await made(registry, resources=BURSTABLE)
    wanted = {"requests": {"cpu": "200m"}, "limits": {"memory": "128Mi"}}
    patch = {"spec": {"containers": [{"name": "c", "image": "other:2", "resources": wanted}]}}
    pod = await through(registry, "resize", patch)
    (one,) = pod["spec"]["containers"]
    assert one["resources"]["requests"] == {"cpu": "200m", "memory": "32Mi"}
    assert one["resources"]["limits"] == {"memory": "128Mi"}
    assert one["image"] == "i:1"
    assert pod["metadata"]["generation"] == 2


async def test_resize_keeps_the_quality_of_service(registry):
    await made(registry, resources=BURSTABLE)
    limits = {"limits": {"cpu": "100m", "memory": "32Mi"}}
    with pytest.raises(Invalid, match="QOS"):
        await through(
            registry, "resize", {"spec": {"containers": [{"name": "c", "resources": limits}]}}
        )


async def test_resize_of_other_resources_is_refused(registry):
    await made(registry, resources=BURSTABLE)
    wanted = {"requests": {"ephemeral-storage": "1Gi"}}
    with pytest.raises(Invalid, match="only cpu and memory"):
        await through(
            registry, "resize", {"spec": {"containers": [{"name": "c", "resources": wanted}]}}
        )


async def made_with_own(registry, **own):
    spec = {"containers": [{"name": "c", "image": "i:1"}]} | own
    return await registry.create(KEY, {"metadata": {"name": "p"}, "spec": spec})


async def test_resize_of_the_pods_own_resources(registry):
    await made_with_own(registry, resources=BURSTABLE)
    patch = {"spec": {"resources": {"limits": {"memory": "128Mi"}}, "priority": 5}}
    pod = await through(registry, "resize", patch)
    assert pod["spec"]["resources"]["limits"] == {"memory": "128Mi"}
    assert pod["spec"]["resources"]["requests"] == BURSTABLE["requests"]
    assert pod["spec"].get("priority") != 5
    assert pod["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("own", "wanted", "why"),
    [
        ({}, {"limits": {"memory": "64Mi"}}, "cannot be added to a pod that was made without"),
        ({"resources": BURSTABLE}, {"limits": {"hugepages-2Mi": "2Mi"}}, "only cpu and memory"),
        ({"resources": BURSTABLE}, None, "cannot be removed: memory"),
        (
            {"resources": BURSTABLE},
            {"limits": {"cpu": "100m", "memory": "32Mi"}},
            "QOS Class may not change",
        ),
    ],
)
async def test_what_of_the_pods_own_resources_cannot_be_resized(registry, own, wanted, why):
    await made_with_own(registry, **own)
    with pytest.raises(Invalid, match=why):
        await through(registry, "resize", {"spec": {"resources": wanted}})
