# SPDX-License-Identifier: Apache-2.0
"""DaemonSets and StatefulSets with their revisions over a store and a registry."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cluster.machinery.revisions import POD_LABEL
from tests.fakes.control_plane import MERGE, ControlPlane, key

STRATEGIC = "application/strategic-merge-patch+json"


def revisions(plane: ControlPlane) -> list[tuple[int, str]]:
    return sorted(
        (each["revision"], each["data"]["spec"]["template"]["spec"]["containers"][0]["image"])
        for each in plane.all("controllerrevisions")
    )


def updated(plane: ControlPlane, image: str) -> bool:
    status = (plane.get("daemonsets", "d") or {}).get("status") or {}
    ready = plane.ready(image=image)
    return status.get("updatedNumberScheduled") == len(ready) == len(plane.all("pods")) == 2


@pytest.fixture
async def nodes(plane: ControlPlane) -> ControlPlane:
    await plane.node("n1")
    await plane.node("n2")
    return plane


async def test_a_daemon_set_keeps_its_templates_and_goes_back(nodes: ControlPlane):
    await nodes.workload("DaemonSet", "d", "v1")
    await nodes.until(lambda: updated(nodes, "v1"))
    await nodes.set_image("daemonsets", "d", "v2")
    await nodes.until(lambda: updated(nodes, "v2"))
    assert revisions(nodes) == [(1, "v1"), (2, "v2")]
    first = next(each for each in nodes.all("controllerrevisions") if each["revision"] == 1)
    assert first["metadata"]["name"] == f"d-{first['metadata']['labels'][POD_LABEL]}"
    assert first["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet"
    # what `kubectl rollout undo` sends
    await nodes.registry.patch(key("daemonsets", "d"), first["data"], STRATEGIC)
    await nodes.until(lambda: updated(nodes, "v1"))
    assert revisions(nodes) == [(2, "v2"), (3, "v1")]
    assert {each["metadata"]["labels"][POD_LABEL] for each in nodes.all("pods")} == {
        first["metadata"]["labels"][POD_LABEL]
    }


async def test_a_daemon_sets_history_is_limited_but_for_what_runs(nodes: ControlPlane):
    await nodes.workload(
        "DaemonSet", "d", "v1", revisionHistoryLimit=0, updateStrategy={"type": "OnDelete"}
    )
    await nodes.until(lambda: updated(nodes, "v1"))
    for number, image in enumerate(("v2", "v3"), 2):
        await nodes.set_image("daemonsets", "d", image)
        await nodes.until(lambda: (number, image) in revisions(nodes))  # noqa: B023
    await nodes.until(lambda: revisions(nodes) == [(1, "v1"), (3, "v3")])
    for each in nodes.all("pods"):
        await nodes.registry.delete(key("pods", each["metadata"]["name"]))
    await nodes.until(lambda: updated(nodes, "v3"))
    await nodes.until(lambda: revisions(nodes) == [(3, "v3")])


async def test_revisions_are_taken_again_by_who_selects_them(nodes: ControlPlane):
    await nodes.workload("DaemonSet", "d", "v1")
    await nodes.until(lambda: updated(nodes, "v1"))
    pods = {each["metadata"]["uid"] for each in nodes.all("pods")}
    await nodes.registry.delete(key("daemonsets", "d"), {"propagationPolicy": "Orphan"})
    await nodes.until(lambda: nodes.get("daemonsets", "d") is None)
    await nodes.workload("DaemonSet", "d", "v1")
    await nodes.until(lambda: updated(nodes, "v1"))
    assert {each["metadata"]["uid"] for each in nodes.all("pods")} == pods
    (revision,) = nodes.all("controllerrevisions")
    owner = (nodes.get("daemonsets", "d") or {})["metadata"]["uid"]
    assert revision["metadata"]["ownerReferences"][0]["uid"] == owner
    assert revision["revision"] == 1


async def test_of_revisions_with_one_template_the_newest_takes_over_the_pods(nodes: ControlPlane):
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["d", "e"]}]}
    await nodes.workload("DaemonSet", "d", "v1", selector=selector)
    await nodes.until(lambda: updated(nodes, "v1"))
    pods = {each["metadata"]["uid"] for each in nodes.all("pods")}
    (first,) = nodes.all("controllerrevisions")
    metadata = first["metadata"]
    twin = {
        "metadata": {
            "name": "twin",
            "labels": {**metadata["labels"], POD_LABEL: "twin"},
            "ownerReferences": metadata["ownerReferences"],
        },
        "data": first["data"],
        "revision": 7,
    }
    await nodes.registry.create(key("controllerrevisions", "twin"), twin)
    touch = {"metadata": {"annotations": {"touched": "yes"}}}
    await nodes.registry.patch(key("daemonsets", "d"), touch, MERGE)
    await nodes.until(lambda: revisions(nodes) == [(7, "v1")])
    await nodes.until(lambda: updated(nodes, "v1"))
    assert {each["metadata"]["uid"] for each in nodes.all("pods")} == pods
    assert {each["metadata"]["labels"][POD_LABEL] for each in nodes.all("pods")} == {"twin"}


async def test_a_taken_name_is_passed_over_and_counted(nodes: ControlPlane):
    await nodes.workload("StatefulSet", "web", replicas=1)
    await nodes.until(lambda: len(nodes.all("controllerrevisions")) == 1)
    (revision,) = nodes.all("controllerrevisions")
    await nodes.registry.delete(key("statefulsets", "web"))
    await nodes.until(lambda: not nodes.all("controllerrevisions"))
    name = revision["metadata"]["name"]
    stranger = {"metadata": {"name": name}, "data": {"other": True}, "revision": 1}
    await nodes.registry.create(key("controllerrevisions", name), stranger)
    await nodes.workload("StatefulSet", "web", replicas=1)

    def status() -> dict[str, Any]:
        return (nodes.get("statefulsets", "web") or {}).get("status") or {}

    await nodes.until(lambda: status().get("readyReplicas") == 1)
    assert status()["collisionCount"] == 1
    assert status()["currentRevision"] != name
    kept = nodes.get("controllerrevisions", name) or {}
    assert kept["data"] == {"other": True}
