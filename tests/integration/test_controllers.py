# SPDX-License-Identifier: Apache-2.0
"""Controllers and scheduler together over a store and a registry, with kubelets that run nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.registry import Registry
from kedge.cluster.controllers import Config
from kedge.cluster.machinery.conditions import find
from kedge.store import Store, delete
from tests.fakes.control_plane import MERGE, ControlPlane, key, running

GRACE = 0.5


@pytest.fixture
def controller_config() -> Config:
    return Config(ca_pem="CA", node_grace_seconds=GRACE, orphan_seconds=0.1)


async def heartbeats(plane: ControlPlane) -> None:
    """Renews the leases of nodes that are not away."""
    while True:
        for kubelet in plane.kubelets.values():
            if not kubelet.away:
                await kubelet.renew()
        await asyncio.sleep(GRACE / 5)


class Heart:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def run(self) -> None:
        await heartbeats(self._plane)


@pytest.fixture
async def alive(plane: ControlPlane) -> ControlPlane:
    """A plane with two nodes whose leases are renewed."""
    await plane.node("n1")
    await plane.node("n2")
    plane.spawn(Heart(plane))
    return plane


def condition(obj: dict[str, Any] | None, name: str) -> Any:
    return find(((obj or {}).get("status") or {}).get("conditions"), name) or {}


def rolled_out(plane: ControlPlane, name: str = "web") -> bool:
    deployment = plane.get("deployments", name)
    status = (deployment or {}).get("status") or {}
    wanted = (deployment or {"spec": {}})["spec"].get("replicas")
    return (
        deployment is not None
        and status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


async def test_a_deployment_becomes_ready_pods_spread_over_the_nodes(alive: ControlPlane):
    await alive.deploy(replicas=4)
    await alive.until(lambda: rolled_out(alive))
    assert Counter(pod["spec"]["nodeName"] for pod in alive.ready()) == {"n1": 2, "n2": 2}
    deployment = alive.get("deployments", "web")
    assert condition(deployment, "Available")["status"] == "True"
    assert condition(deployment, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    (replica_set,) = alive.all("replicasets")
    assert replica_set["status"]["availableReplicas"] == 4
    reasons = {event["reason"] for event in alive.all("events")}
    assert {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"} <= reasons


async def test_nothing_is_written_once_all_is_as_wanted(plane: ControlPlane):
    await plane.node("n1")
    await plane.deploy(replicas=3)
    await plane.until(lambda: rolled_out(plane))
    await plane.settled()
    before = plane.store.revision
    await asyncio.sleep(0.3)
    assert plane.store.revision == before


async def test_a_rollout_replaces_every_pod_and_undo_brings_the_old_template_back(
    alive: ControlPlane,
):
    await alive.deploy(replicas=3)
    await alive.until(lambda: rolled_out(alive))
    await alive.set_image("deployments", "web", "v2")
    await alive.until(lambda: rolled_out(alive) and len(alive.ready(image="v2")) == 3)
    await alive.until(lambda: len(alive.all("pods")) == 3)
    old = next(each for each in alive.all("replicasets") if each["spec"]["replicas"] == 0)
    await alive.set_image("deployments", "web", "v1")
    await alive.until(lambda: rolled_out(alive) and len(alive.ready(image="v1")) == 3)
    restored = alive.get("replicasets", old["metadata"]["name"])
    annotations = restored["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    deployment = alive.get("deployments", "web")
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_a_rollout_that_cannot_start_keeps_the_old_pods(alive: ControlPlane):
    await alive.deploy(replicas=4)
    await alive.until(lambda: rolled_out(alive))
    for kubelet in alive.kubelets.values():
        kubelet.broken_images.add("bad")
    await alive.set_image("deployments", "web", "bad")
    await alive.until(
        lambda: (
            len([p for p in alive.all("pods") if p["spec"]["containers"][0]["image"] == "bad"]) == 2
        )
    )
    await alive.settled()
    assert len(alive.ready(image="v1")) == 3
    assert len(alive.all("pods")) == 5


async def test_scaling_up_and_down_ends_with_the_number_asked_for(alive: ControlPlane):
    await alive.deploy(replicas=2)
    await alive.until(lambda: rolled_out(alive))
    for replicas in (7, 1, 0):
        await alive.registry.patch(
            key("deployments", "web"), {"spec": {"replicas": replicas}}, MERGE
        )
        await alive.until(
            lambda count=replicas: len(alive.all("pods")) == count and rolled_out(alive)
        )


async def test_fifty_pods_are_created_exactly_once_each(plane: ControlPlane):
    await plane.node("n1")
    await plane.deploy(replicas=50)
    await plane.until(lambda: len(plane.ready()) == 50)
    await plane.settled()
    assert len(plane.all("pods")) == 50
    assert len(plane.kubelets["n1"].started) == 50


async def test_a_deleted_pod_is_replaced(alive: ControlPlane):
    await alive.deploy(replicas=2)
    await alive.until(lambda: rolled_out(alive))
    victim = alive.ready()[0]["metadata"]
    await alive.registry.delete(key("pods", victim["name"]), {})
    await alive.until(
        lambda: victim["uid"] not in {pod["metadata"]["uid"] for pod in alive.all("pods")}
    )
    await alive.until(lambda: len(alive.ready()) == 2)


async def test_a_matching_stray_is_adopted_and_a_relabelled_pod_released(alive: ControlPlane):
    stray = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stray", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "v1"}]},
    }
    await alive.registry.create(key("pods", "stray"), stray)
    await alive.workload("ReplicaSet", "web", replicas=2)
    await alive.until(lambda: len(alive.ready()) == 2)
    assert alive.get("pods", "stray")["metadata"]["ownerReferences"][0]["name"] == "web"
    await alive.registry.patch(
        key("pods", "stray"), {"metadata": {"labels": {"app": "debug"}}}, MERGE
    )
    await alive.until(lambda: len(alive.ready()) == 3)
    assert not alive.get("pods", "stray")["metadata"].get("ownerReferences")


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_deleting_a_deployment_deletes_all_below_it(alive: ControlPlane, policy: str):
    await alive.deploy(replicas=3)
    await alive.until(lambda: rolled_out(alive))
    await alive.registry.delete(key("deployments", "web"), {"propagationPolicy": policy})
    if policy == "Foreground":
        assert alive.get("deployments", "web") is not None
    await alive.until(lambda: not alive.all("pods") and not alive.all("replicasets"))
    await alive.until(lambda: alive.get("deployments", "web") is None)


async def test_orphaning_leaves_the_pods_running_without_an_owner(alive: ControlPlane):
    await alive.workload("ReplicaSet", "web", replicas=2)
    await alive.until(lambda: len(alive.ready()) == 2)
    before = {pod["metadata"]["uid"] for pod in alive.ready()}
    await alive.registry.delete(key("replicasets", "web"), {"propagationPolicy": "Orphan"})
    await alive.until(lambda: alive.get("replicasets", "web") is None)
    await alive.settled()
    assert {pod["metadata"]["uid"] for pod in alive.ready()} == before
    assert not any(pod["metadata"].get("ownerReferences") for pod in alive.ready())


async def test_a_dependent_of_an_owner_that_never_was_is_collected(alive: ControlPlane):
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "not-there"}
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "haunted", "ownerReferences": [owner]},
    }
    await alive.registry.create(key("configmaps", "haunted"), body)
    await alive.until(lambda: alive.get("configmaps", "haunted") is None)


async def test_an_owner_of_a_kind_unknown_here_is_left_alone(alive: ControlPlane):
    owner = {"apiVersion": "example.com/v1", "kind": "Robot", "name": "r", "uid": "r-1"}
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "arm", "ownerReferences": [owner]},
    }
    await alive.registry.create(key("configmaps", "arm"), body)
    await alive.settled()
    assert alive.get("configmaps", "arm") is not None


async def test_a_namespace_goes_with_all_that_is_in_it(alive: ControlPlane):
    await alive.namespace("team")
    for name in ("a", "b"):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        await alive.registry.create(key("configmaps", name, "team"), body)
    assert alive.get("configmaps", "kube-root-ca.crt", "team")["data"] == {"ca.crt": "CA"}
    await alive.registry.delete(key("namespaces", "team"), {})
    await alive.until(lambda: alive.get("namespaces", "team") is None)
    assert alive.all("configmaps", "team") == []
    assert alive.all("serviceaccounts", "team") == []


async def test_what_every_namespace_has_is_made_again(alive: ControlPlane):
    await alive.registry.delete(key("serviceaccounts", "default"), {})
    await alive.until(lambda: alive.get("serviceaccounts", "default") is not None)
    bundle = key("configmaps", "kube-root-ca.crt")
    await alive.registry.patch(bundle, {"data": {"ca.crt": "forged", "extra": "x"}}, MERGE)
    await alive.until(
        lambda: alive.get("configmaps", "kube-root-ca.crt")["data"] == {"ca.crt": "CA"}
    )


async def test_a_daemon_set_runs_once_on_each_node_also_on_new_and_cordoned_ones(
    alive: ControlPlane,
):
    await alive.workload("DaemonSet", "agent")
    await alive.until(lambda: len(alive.ready()) == 2)
    await alive.node("n3")
    await alive.registry.patch(key("nodes", "n3"), {"spec": {"unschedulable": True}}, MERGE)
    await alive.until(
        lambda: {pod["spec"]["nodeName"] for pod in alive.ready()} == {"n1", "n2", "n3"}
    )
    await alive.until(lambda: (alive.get("daemonsets", "agent")["status"]).get("numberReady") == 3)
    await alive.set_image("daemonsets", "agent", "v2")
    await alive.until(lambda: len(alive.ready(image="v2")) == 3 and len(alive.all("pods")) == 3)


async def test_a_pod_without_room_waits_says_why_and_goes_when_there_is(alive: ControlPlane):
    requests = {
        "containers": [{"name": "c", "image": "v1", "resources": {"requests": {"cpu": "12"}}}]
    }
    await alive.deploy(replicas=1, pod=requests)
    await alive.until(
        lambda: (
            condition((alive.all("pods") or [None])[0], "PodScheduled").get("reason")
            == "Unschedulable"
        )
    )
    (pod,) = alive.all("pods")
    wanted = "0/2 nodes are available: 2 Insufficient cpu."
    assert condition(pod, "PodScheduled")["message"] == wanted
    await alive.until(lambda: any(e["message"] == wanted for e in alive.all("events")))
    await alive.node("big", cpu="16")
    await alive.until(lambda: alive.ready(node="big"))


async def test_gates_and_foreign_schedulers_are_respected(alive: ControlPlane):
    gated = {"schedulingGates": [{"name": "example.com/wait"}]}
    await alive.workload("ReplicaSet", "gated", replicas=1, pod=gated)
    await alive.workload("ReplicaSet", "foreign", replicas=1, pod={"schedulerName": "mine"})
    await alive.until(lambda: len(alive.all("pods")) == 2)
    await alive.settled()
    assert not any(pod["spec"].get("nodeName") for pod in alive.all("pods"))
    name = next(
        p["metadata"]["name"]
        for p in alive.all("pods")
        if p["metadata"]["labels"]["app"] == "gated"
    )
    await alive.registry.patch(key("pods", name), {"spec": {"schedulingGates": []}}, MERGE)
    await alive.until(lambda: len(alive.ready()) == 1)


async def test_pods_of_a_deleted_node_are_removed_and_replaced(alive: ControlPlane):
    await alive.deploy(replicas=4)
    await alive.until(lambda: rolled_out(alive))
    alive.kubelets.pop("n2").away = True
    await alive.registry.delete(key("nodes", "n2"), {})
    await alive.until(lambda: len(alive.ready(node="n1")) == 4 and len(alive.all("pods")) == 4)


async def test_a_node_out_of_reach_keeps_its_pods_and_comes_back(alive: ControlPlane):
    await alive.deploy(replicas=4)
    await alive.until(lambda: rolled_out(alive))
    pods = {pod["metadata"]["uid"] for pod in alive.all("pods")}
    edge = alive.kubelets["n2"]
    edge.away = True
    await alive.until(
        lambda: condition(alive.get("nodes", "n2"), "Ready").get("status") == "Unknown"
    )
    await alive.until(lambda: len(alive.ready()) == 2)
    await alive.settled()
    lost = alive.get("nodes", "n2")
    assert condition(lost, "Ready")["reason"] == "NodeStatusUnknown"
    assert [(t["key"], t["effect"]) for t in lost["spec"]["taints"]] == [
        ("node.kubernetes.io/unreachable", "NoSchedule")
    ]
    marked = [pod for pod in alive.all("pods") if pod["spec"]["nodeName"] == "n2"]
    assert {condition(pod, "Ready")["reason"] for pod in marked} == {"NodeUnreachable"}
    assert {pod["status"]["phase"] for pod in marked} == {"Running"}
    assert {pod["metadata"]["uid"] for pod in alive.all("pods")} == pods, (
        "nothing is deleted or replaced"
    )
    assert condition(alive.get("deployments", "web"), "Available")["status"] == "False"

    await edge.come_back()
    begun = time.monotonic()
    await alive.until(
        lambda: rolled_out(alive) and not alive.get("nodes", "n2")["spec"].get("taints")
    )
    assert time.monotonic() - begun < GRACE, (
        "what was marked is taken back at once, not after a grace"
    )
    assert {pod["metadata"]["uid"] for pod in alive.ready()} == pods
    assert len(edge.started) == 2, "no container was started again"


async def test_a_renewed_lease_alone_takes_the_marks_back(alive: ControlPlane):
    edge = alive.kubelets["n2"]
    edge.away = True
    await alive.until(
        lambda: condition(alive.get("nodes", "n2"), "Ready").get("status") == "Unknown"
    )
    await alive.settled()
    edge.away = False
    await alive.until(lambda: condition(alive.get("nodes", "n2"), "Ready").get("status") == "True")
    await alive.until(lambda: not alive.get("nodes", "n2")["spec"].get("taints"))


async def test_a_pod_deleted_while_its_node_is_away_stays_until_the_node_reports(
    alive: ControlPlane,
):
    await alive.workload("DaemonSet", "agent")
    await alive.until(lambda: len(alive.ready()) == 2)
    edge = alive.kubelets["n2"]
    edge.away = True
    (pod,) = alive.ready(node="n2")
    await alive.until(lambda: len(alive.ready()) == 1)
    await alive.registry.delete(key("pods", pod["metadata"]["name"]), {})
    await alive.settled()
    terminating = alive.get("pods", pod["metadata"]["name"])
    assert terminating["metadata"]["deletionTimestamp"]
    await edge.come_back()
    await alive.until(lambda: alive.get("pods", pod["metadata"]["name"]) is None)
    await alive.until(lambda: len(alive.ready()) == 2)


async def test_a_cordoned_node_is_tainted_and_gets_no_new_pods(alive: ControlPlane):
    await alive.registry.patch(key("nodes", "n2"), {"spec": {"unschedulable": True}}, MERGE)
    await alive.until(lambda: alive.get("nodes", "n2")["spec"].get("taints"))
    await alive.deploy(replicas=3)
    await alive.until(lambda: rolled_out(alive))
    assert {pod["spec"]["nodeName"] for pod in alive.ready()} == {"n1"}
    await alive.registry.patch(key("nodes", "n2"), {"spec": {"unschedulable": None}}, MERGE)
    await alive.until(lambda: not alive.get("nodes", "n2")["spec"].get("taints"))


async def test_controllers_that_start_late_find_what_happened_meanwhile(primary: Store):
    registry = Registry(primary)
    async with running(primary, registry) as first:
        await first.node("n1")
        await first.deploy(replicas=2)
        await first.until(lambda: rolled_out(first))
    replica_set = first.all("replicasets")[0]["metadata"]
    primary.commit_now([delete(ObjectKey("apps", "deployments", "default", "web"))])
    second = ControlPlane(primary, registry)
    async with asyncio.TaskGroup() as group:
        second.start(group, Config(ca_pem="CA"))
        await second.until(lambda: second.get("replicasets", replica_set["name"]) is None)
        second.stop()


async def test_expired_bootstrap_tokens_are_removed_and_others_stay(plane: ControlPlane) -> None:
    async def token(
        name: str, expiration: str, namespace: str = "kube-system", **more: str
    ) -> None:
        body = {
            "metadata": {"name": name},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {"expiration": expiration},
            **more,
        }
        await plane.registry.create(key("secrets", name, namespace), body)

    await token("later", "2999-01-01T00:00:00Z")
    await token("elsewhere", "2000-01-01T00:00:00Z", "default")
    await token("other", "2000-01-01T00:00:00Z", type="Opaque")
    await token("over", "2000-01-01T00:00:00Z")
    await plane.until(lambda: plane.get("secrets", "over", "kube-system") is None)
    changed = {"stringData": {"expiration": "2000-01-01T00:00:00Z"}}
    await plane.registry.patch(key("secrets", "later", "kube-system"), changed, MERGE)
    await plane.until(lambda: plane.get("secrets", "later", "kube-system") is None)
    assert plane.get("secrets", "other", "kube-system") is not None
    assert plane.get("secrets", "elsewhere") is not None
