# SPDX-License-Identifier: Apache-2.0
"""StatefulSets over a store and a registry, with kubelets that run nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kedge.cluster.apiserver.registry import Registry
from kedge.cluster.controllers import Config
from kedge.errors import Invalid
from kedge.store import Store
from tests.fakes.control_plane import MERGE, ControlPlane, key, running
from tests.fakes.kubelet import TestKubelet

CLAIM = {
    "metadata": {"name": "data", "labels": {"tier": "db"}},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}
HASH = "controller-revision-hash"


async def make(plane: ControlPlane, replicas: int = 3, **spec: Any) -> None:
    await plane.workload("StatefulSet", "web", replicas=replicas, serviceName="web", **spec)


def pod(plane: ControlPlane, ordinal: int) -> Any:
    return plane.get("pods", f"web-{ordinal}")


def names(plane: ControlPlane) -> list[str]:
    return sorted(each["metadata"]["name"] for each in plane.all("pods"))


def status(plane: ControlPlane) -> dict[str, Any]:
    return (plane.get("statefulsets", "web") or {}).get("status") or {}


def spec(plane: ControlPlane) -> dict[str, Any]:
    return (plane.get("statefulsets", "web") or {})["spec"]


def ready(plane: ControlPlane, count: int) -> bool:
    seen = status(plane)
    return seen.get("replicas") == count == seen.get("availableReplicas") == len(plane.ready())


def rolled_out(plane: ControlPlane) -> bool:
    seen, wanted = status(plane), spec(plane)["replicas"]
    stored = plane.get("statefulsets", "web") or {}
    return (
        seen.get("observedGeneration") == stored["metadata"]["generation"]
        and seen.get("updatedReplicas", 0) == wanted
        and seen["currentRevision"] == seen["updateRevision"]
        and ready(plane, wanted)
    )


async def patch(plane: ControlPlane, **changes: Any) -> None:
    await plane.registry.patch(key("statefulsets", "web"), {"spec": changes}, MERGE)


def images(plane: ControlPlane) -> list[str]:
    pods = sorted(plane.all("pods"), key=lambda each: each["metadata"]["name"])
    return [each["spec"]["containers"][0]["image"] for each in pods]


def events(plane: ControlPlane, reason: str) -> list[str]:
    return [each["message"] for each in plane.all("events") if each["reason"] == reason]


@pytest.fixture
async def node(plane: ControlPlane) -> ControlPlane:
    await plane.node("n1")
    return plane


async def test_pods_come_in_order_with_stable_names_labels_and_hosts(node: ControlPlane):
    made: list[str] = []
    node.informer.pods.watch(lambda old, new: made.append(new.name) if old is None else None)
    await make(node)
    await node.until(lambda: rolled_out(node))
    assert made == ["web-0", "web-1", "web-2"]
    revision = status(node)["currentRevision"]
    for ordinal in range(3):
        found = pod(node, ordinal)
        assert found["metadata"]["generateName"] == "web-"
        assert found["spec"]["hostname"] == f"web-{ordinal}"
        assert found["spec"]["subdomain"] == "web"
        assert found["metadata"]["labels"] == {
            "app": "web",
            HASH: revision,
            "statefulset.kubernetes.io/pod-name": f"web-{ordinal}",
            "apps.kubernetes.io/pod-index": str(ordinal),
        }
    message = "create Pod web-0 in StatefulSet web successful"
    await node.until(lambda: message in events(node, "SuccessfulCreate"))
    seen = status(node)
    assert (seen["replicas"], seen["currentReplicas"], seen["collisionCount"]) == (3, 3, 0)


async def test_an_ordered_set_waits_for_each_pod(node: ControlPlane):
    node.kubelets["n1"].broken_images.add("v1")
    await make(node)
    await node.until(lambda: names(node) == ["web-0"])
    await node.settled()
    assert names(node) == ["web-0"]


async def test_a_parallel_set_does_not_wait(node: ControlPlane):
    node.kubelets["n1"].broken_images.add("v1")
    await make(node, podManagementPolicy="Parallel", ordinals={"start": 5})
    await node.until(lambda: names(node) == ["web-5", "web-6", "web-7"])
    await node.until(lambda: status(node).get("replicas") == 3)
    assert "readyReplicas" not in status(node)


async def test_pods_go_from_the_highest_down(node: ControlPlane):
    await make(node)
    await node.until(lambda: rolled_out(node))
    gone: list[str] = []
    node.informer.pods.watch(lambda old, new: gone.append(old.name) if new is None else None)
    await patch(node, replicas=0)
    await node.until(lambda: not node.all("pods"))
    assert gone == ["web-2", "web-1", "web-0"]
    await node.until(lambda: status(node)["replicas"] == 0)


async def test_a_lost_or_failed_pod_comes_back_with_its_name(node: ControlPlane):
    await make(node, replicas=2)
    await node.until(lambda: rolled_out(node))
    first, second = (pod(node, ordinal)["metadata"]["uid"] for ordinal in range(2))
    await node.registry.delete(key("pods", "web-0"))
    failed = {"status": {"phase": "Failed", "reason": "Evicted"}}
    await node.registry.patch(key("pods", "web-1"), failed, MERGE, subresource="status")
    await node.until(
        lambda: (
            rolled_out(node)
            and pod(node, 0)["metadata"]["uid"] != first
            and pod(node, 1)["metadata"]["uid"] != second
        )
    )


async def test_a_rolling_update_goes_down_and_back_and_forgets(node: ControlPlane):
    await make(node, revisionHistoryLimit=1)
    await node.until(lambda: rolled_out(node))
    first = status(node)["currentRevision"]
    gone: list[str] = []
    node.informer.pods.watch(lambda old, new: gone.append(old.name) if new is None else None)
    for image in ("v2", "v3", "v4"):
        await node.set_image("statefulsets", "web", image)
        await node.until(lambda: rolled_out(node) and set(images(node)) == {image})  # noqa: B023
    assert gone == ["web-2", "web-1", "web-0"] * 3
    await node.until(lambda: len(node.all("controllerrevisions")) == 2)
    left = sorted(each["revision"] for each in node.all("controllerrevisions"))
    assert left == [3, 4]
    assert first not in {each["metadata"]["name"] for each in node.all("controllerrevisions")}
    await node.set_image("statefulsets", "web", "v3")
    await node.until(lambda: rolled_out(node) and set(images(node)) == {"v3"})
    assert sorted(each["revision"] for each in node.all("controllerrevisions")) == [4, 5]


async def test_a_partition_holds_the_first_pods_back_also_when_they_are_lost(node: ControlPlane):
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    await make(node, updateStrategy=rolling)
    await node.until(lambda: rolled_out(node))
    await node.set_image("statefulsets", "web", "v2")
    await node.until(lambda: images(node) == ["v1", "v1", "v2"] and ready(node, 3))
    old = pod(node, 0)["metadata"]["uid"]
    await node.registry.delete(key("pods", "web-0"))
    await node.until(lambda: pod(node, 0) and pod(node, 0)["metadata"]["uid"] != old)
    await node.until(lambda: ready(node, 3))
    assert images(node) == ["v1", "v1", "v2"]
    seen = status(node)
    assert (seen["currentReplicas"], seen["updatedReplicas"]) == (2, 1)
    assert seen["currentRevision"] != seen["updateRevision"]
    await patch(node, updateStrategy={"rollingUpdate": {"partition": 0}})
    await node.until(lambda: rolled_out(node) and set(images(node)) == {"v2"})


async def test_on_delete_leaves_pods_to_their_owner(node: ControlPlane):
    await make(node, replicas=2, updateStrategy={"type": "OnDelete"})
    await node.until(lambda: ready(node, 2))
    await node.set_image("statefulsets", "web", "v2")
    await node.until(lambda: status(node).get("currentReplicas") == 2)
    await node.settled()
    assert images(node) == ["v1", "v1"]
    await node.registry.delete(key("pods", "web-0"))
    await node.until(lambda: images(node) == ["v2", "v1"] and ready(node, 2))


async def test_max_unavailable_takes_several_at_once(node: ControlPlane):
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}}
    await make(node, 4, podManagementPolicy="Parallel", updateStrategy=rolling)
    await node.until(lambda: rolled_out(node))
    fewest = [4]
    pods = node.informer.pods
    pods.watch(lambda _old, _new: fewest.append(sum(one.ready for one in pods)))
    node.kubelets["n1"].broken_images.add("v2")
    await node.set_image("statefulsets", "web", "v2")
    await node.until(lambda: images(node) == ["v1", "v2", "v2", "v2"])
    await node.settled()
    assert min(fewest) == 1
    await node.set_image("statefulsets", "web", "v3")
    await node.until(lambda: rolled_out(node) and set(images(node)) == {"v3"})


async def test_claims_are_made_labelled_and_kept(node: ControlPlane):
    await make(node, replicas=2, volumeClaimTemplates=[CLAIM])
    await node.until(lambda: pod(node, 0))
    claim = node.get("persistentvolumeclaims", "data-web-0") or {}
    assert claim["metadata"]["labels"] == {"app": "web", "tier": "db"}
    assert "ownerReferences" not in claim["metadata"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}} in pod(node, 0)[
        "spec"
    ]["volumes"]
    message = "create Claim data-web-0 Pod web-0 in StatefulSet web success"
    await node.until(lambda: message in events(node, "SuccessfulCreate"))
    await node.registry.delete(key("statefulsets", "web"))
    await node.until(lambda: not node.all("pods"))
    await node.settled()
    assert node.get("persistentvolumeclaims", "data-web-0") is not None


def owners(plane: ControlPlane, claim: str) -> list[tuple[str, str]]:
    found = plane.get("persistentvolumeclaims", claim) or {"metadata": {}}
    references = found["metadata"].get("ownerReferences") or []
    return [(each["kind"], each["name"]) for each in references]


async def test_claims_go_with_what_the_policy_says(node: ControlPlane):
    both = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    await make(
        node,
        replicas=2,
        volumeClaimTemplates=[CLAIM],
        podManagementPolicy="Parallel",
        persistentVolumeClaimRetentionPolicy=both,
    )
    await node.until(lambda: owners(node, "data-web-1") == [("StatefulSet", "web")])
    await patch(node, replicas=1)
    await node.until(lambda: pod(node, 1) is None)
    await node.until(lambda: node.get("persistentvolumeclaims", "data-web-1") is None)
    assert node.get("persistentvolumeclaims", "data-web-0") is not None
    await patch(node, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain"})
    await node.until(lambda: owners(node, "data-web-0") == [])
    await patch(node, persistentVolumeClaimRetentionPolicy=both)
    await node.until(lambda: owners(node, "data-web-0") == [("StatefulSet", "web")])
    await node.registry.delete(key("statefulsets", "web"))
    await node.until(lambda: not node.all("persistentvolumeclaims"))


async def test_orphans_are_adopted_and_strangers_let_go(node: ControlPlane):
    await make(node, replicas=2)
    await node.until(lambda: rolled_out(node))
    before = {name: node.get("pods", name)["metadata"]["uid"] for name in names(node)}
    revision = status(node)["currentRevision"]
    options = {"propagationPolicy": "Orphan"}
    await node.registry.delete(key("statefulsets", "web"), options)
    await node.until(lambda: node.get("statefulsets", "web") is None)
    assert all("ownerReferences" not in each["metadata"] for each in node.all("pods"))
    await make(node, replicas=2)
    await node.until(lambda: rolled_out(node))
    assert before == {name: node.get("pods", name)["metadata"]["uid"] for name in names(node)}
    assert status(node)["currentRevision"] == revision
    await node.registry.patch(key("pods", "web-1"), {"metadata": {"labels": {"app": "x"}}}, MERGE)
    await node.until(lambda: "ownerReferences" not in pod(node, 1)["metadata"])
    await node.registry.delete(key("pods", "web-1"))
    await node.until(lambda: rolled_out(node))


def orphan(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-0", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "v0"}], **spec},
    }


async def test_a_taken_pod_gets_the_labels_of_its_name(node: ControlPlane):
    await node.registry.create(key("pods", "web-0"), orphan())
    await make(node, replicas=1, updateStrategy={"type": "OnDelete"})
    label = "statefulset.kubernetes.io/pod-name"
    await node.until(lambda: pod(node, 0)["metadata"]["labels"].get(label) == "web-0")
    assert pod(node, 0)["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet"
    assert images(node) == ["v0"]
    message = "update Pod web-0 in StatefulSet web successful"
    await node.until(lambda: message in events(node, "SuccessfulUpdate"))


async def test_a_taken_pod_without_the_claims_is_told_of(node: ControlPlane):
    await node.registry.create(key("pods", "web-0"), orphan())
    await make(node, replicas=2, volumeClaimTemplates=[CLAIM], updateStrategy={"type": "OnDelete"})
    await node.until(lambda: events(node, "FailedUpdate"))
    assert "pod updates may not change fields" in events(node, "FailedUpdate")[0]
    assert names(node) == ["web-0"]


async def test_a_pod_that_is_refused_is_told_of_and_tried_again(node: ControlPlane):
    name = "a" * 60
    await node.workload("StatefulSet", name, replicas=1)
    await node.until(lambda: events(node, "FailedCreate"))
    told = events(node, "FailedCreate")[0]
    assert told.startswith(f"create Pod {name}-0 in StatefulSet {name} failed error: Pod")
    assert "must be no more than 63 characters" in told


async def test_claims_of_a_pending_pod_are_made_again(node: ControlPlane):
    await make(node, replicas=1, volumeClaimTemplates=[CLAIM])
    await node.until(lambda: pod(node, 0))
    claim = key("persistentvolumeclaims", "data-web-0")
    old = (node.get("persistentvolumeclaims", "data-web-0") or {})["metadata"]["uid"]
    await node.registry.delete(claim)
    if node.get("persistentvolumeclaims", "data-web-0") is not None:
        await node.registry.patch(claim, {"metadata": {"finalizers": None}}, MERGE)

    def uid() -> str | None:
        found = node.get("persistentvolumeclaims", "data-web-0")
        return found and found["metadata"]["uid"]

    await node.until(lambda: uid() not in (None, old))


async def test_a_claim_with_another_controller_is_left_to_it(node: ControlPlane):
    owner = node.get("namespaces", "default") or {}
    other = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "name": "default",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    claim = {**CLAIM, "metadata": {"name": "data-web-0", "ownerReferences": [other]}}
    await node.registry.create(key("persistentvolumeclaims", "data-web-0"), claim)
    deleted = {"whenDeleted": "Delete"}
    await make(node, 1, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=deleted)
    await node.until(lambda: events(node, "ConflictingController"))
    assert owners(node, "data-web-0") == [("Namespace", "default")]


async def test_pods_are_available_after_min_ready_seconds(node: ControlPlane):
    await make(node, replicas=2, minReadySeconds=1)
    await node.until(lambda: status(node).get("readyReplicas") == 1)
    assert names(node) == ["web-0"]
    await node.until(lambda: ready(node, 2))


async def test_scale_shows_and_sets_replicas(node: ControlPlane):
    await make(node, replicas=1)
    await node.until(lambda: ready(node, 1))
    await node.registry.scale(key("statefulsets", "web"), lambda _: 2)
    await node.until(lambda: rolled_out(node) and len(names(node)) == 2)


async def test_nothing_is_written_once_all_is_as_wanted(node: ControlPlane):
    await make(node, volumeClaimTemplates=[CLAIM], podManagementPolicy="Parallel")
    await node.until(lambda: status(node).get("replicas") == 3)
    await node.settled(100)
    seen: list[str] = []
    node.informer.on_event(lambda event: seen.append(event.key.resource))
    touch = {"metadata": {"annotations": {"touched": "yes"}}}
    await node.registry.patch(key("pods", "web-0"), touch, MERGE)
    await node.settled(40)
    assert [each for each in seen if each != "events"] == ["pods"]


async def test_another_control_plane_goes_on_where_one_ended(primary: Store):
    registry = Registry(primary)
    async with running(primary, registry) as first:
        node = await first.node("n1")
        await make(first, replicas=3)
        await first.until(lambda: rolled_out(first))
        node.broken_images.add("v2")
        await first.set_image("statefulsets", "web", "v2")
        await first.until(lambda: images(first) == ["v1", "v1", "v2"])
    made = len(first.all("controllerrevisions"))
    second = ControlPlane(primary, registry)
    async with asyncio.TaskGroup() as group:
        kubelet = TestKubelet(registry, second.informer, "n1")
        second.start(group, Config(ca_pem="CA"))
        second.spawn(kubelet)
        await second.until(lambda: rolled_out(second) and set(images(second)) == {"v2"})
        second.stop()
    assert len(second.all("controllerrevisions")) == made == 2


async def test_what_makes_a_set_what_it_is_cannot_change(node: ControlPlane):
    await make(node, replicas=0)
    with pytest.raises(Invalid) as caught:
        await patch(node, serviceName="other")
    assert str(caught.value) == (
        'StatefulSet.apps "web" is invalid: spec: Forbidden: updates to statefulset spec for fields other than '
        "'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
        "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
