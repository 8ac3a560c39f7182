# SPDX-License-Identifier: Apache-2.0
"""What pods get from the runtime class that they name."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.errors import Forbidden

CLASS: dict[str, Any] = {
    "metadata": {"name": "heavy"},
    "handler": "kata",
    "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
    "scheduling": {
        "nodeSelector": {"sandbox": "kata"},
        "tolerations": [{"key": "kata", "operator": "Exists", "effect": "NoSchedule"}],
    },
}


def pods(name: str = "web") -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "i"}]
    return {"metadata": {"name": "web"}, "spec": {"containers": containers, **spec}}


async def make_class(registry: Any) -> None:
    await registry.create(ObjectKey("node.k8s.io", "runtimeclasses", "", "heavy"), CLASS)


async def test_a_pod_gets_its_classes_overhead_and_place(registry: Any) -> None:
    await make_class(registry)
    wanted = pod(runtimeClassName="heavy", nodeSelector={"disk": "ssd"})
    made = (await registry.create(pods(), wanted))["spec"]
    assert made["overhead"] == {"cpu": "250m", "memory": "64Mi"}
    assert made["nodeSelector"] == {"disk": "ssd", "sandbox": "kata"}
    assert CLASS["scheduling"]["tolerations"][0] in made["tolerations"]


async def test_an_overhead_may_be_given_if_it_is_the_classes(registry: Any) -> None:
    await make_class(registry)
    same = {"cpu": "0.25", "memory": "64Mi"}
    made = await registry.create(pods(), pod(runtimeClassName="heavy", overhead=same))
    assert made["spec"]["overhead"] == {"cpu": "250m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "none"}, 'RuntimeClass "none" not found'),
        ({"overhead": {"cpu": "1"}}, "Pod Overhead set without corresponding RuntimeClass"),
        ({"runtimeClassName": "heavy", "overhead": {"cpu": "1"}}, "Overhead doesn't match"),
        ({"runtimeClassName": "heavy", "nodeSelector": {"sandbox": "runc"}}, "conflict: runtimeClass"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_the_class_is_refused(
    registry: Any, spec: dict[str, Any], why: str
) -> None:
    await make_class(registry)
    with pytest.raises(Forbidden, match=why):
        await registry.create(pods(), pod(**spec))
