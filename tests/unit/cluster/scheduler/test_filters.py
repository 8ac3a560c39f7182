# SPDX-License-Identifier: Apache-2.0
"""Which nodes can take a pod, and the reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cluster.scheduler.core import Placed, Unschedulable, schedule
from kedge.cluster.scheduler.snapshot import Snapshot
from tests.fakes import objects


def snapshot(*nodes: Any) -> Snapshot:
    made = Snapshot()
    for node in nodes:
        made.put_node(node)
    return made


def place(pod: Any, known: Snapshot) -> str:
    result = schedule(pod, pod.pending, known)
    return result.node if isinstance(result, Placed) else result.message


def waiting(**spec: Any) -> Any:
    requests = spec.pop("requests", None)
    return objects.pod(phase="Pending", spec=spec, requests=requests)


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"nodeAffinity": {field: {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def test_without_nodes_the_message_is_upstreams():
    assert place(waiting(), snapshot()) == "no nodes available to schedule pods"


def test_reasons_are_counted_and_sorted():
    known = snapshot(
        objects.node("a", allocatable={"cpu": "1"}),
        objects.node("b", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]),
        objects.node("c", taints=[{"key": "k", "value": "v", "effect": "NoExecute"}]),
    )
    wanted = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}."
    assert place(waiting(requests={"cpu": "2"}), known) == wanted


@pytest.mark.parametrize(
    ("requests", "fits"),
    [
        ({"cpu": "2"}, True),
        ({"cpu": "2001m"}, False),
        ({"memory": "1Gi"}, True),
        ({"memory": "1073741825"}, False),
        ({"ephemeral-storage": "5G"}, True),
        ({"ephemeral-storage": "6G"}, False),
        ({"example.com/dongle": "1"}, False),
        ({"cpu": "0", "example.com/dongle": "0"}, True),
    ],
)
def test_requests_must_fit_into_what_is_left(requests, fits: bool):
    node = objects.node("a", allocatable={"cpu": "2", "memory": "1Gi", "ephemeral-storage": "5G"})
    assert (place(waiting(requests=requests), snapshot(node)) == "a") is fits


def test_what_other_pods_took_is_gone_until_they_go():
    known = snapshot(objects.node("a", allocatable={"cpu": "2"}))
    other = objects.pod(node="a", requests={"cpu": "1500m"})
    known.put_pod(other, "a")
    assert (
        place(waiting(requests={"cpu": "1"}), known)
        == "0/1 nodes are available: 1 Insufficient cpu."
    )
    known.remove_pod(other.key)
    assert place(waiting(requests={"cpu": "1"}), known) == "a"


def test_a_node_takes_no_more_pods_than_it_allows():
    known = snapshot(objects.node("a", allocatable={"pods": "1"}))
    known.put_pod(objects.pod(node="a"), "a")
    assert place(waiting(), known) == "0/1 nodes are available: 1 Too many pods."


def test_init_containers_sidecars_and_overhead_count():
    containers = [{"resources": {"requests": {"cpu": "1"}}}]
    init = [
        {"resources": {"requests": {"cpu": "1"}}, "restartPolicy": "Always"},
        {"resources": {"requests": {"cpu": "3"}}},
    ]
    pod = waiting(containers=containers, initContainers=init, overhead={"cpu": "500m"})
    assert pod.requests["cpu"] == 4500
    assert waiting(containers=containers, initContainers=init[:1]).requests["cpu"] == 2000


def test_a_limit_stands_in_for_a_missing_request():
    containers = [{"resources": {"limits": {"cpu": "2"}}}]
    assert waiting(containers=containers).requests["cpu"] == 2000


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints_must_be_tolerated(toleration, fits: bool):
    node = objects.node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    assert (place(waiting(tolerations=[toleration]), snapshot(node)) == "a") is fits


def test_a_cordoned_node_takes_only_what_tolerates_that():
    known = snapshot(objects.node("a", unschedulable=True))
    assert place(waiting(), known) == "0/1 nodes are available: 1 node(s) were unschedulable."
    key = "node.kubernetes.io/unschedulable"
    assert place(waiting(tolerations=[{"key": key, "operator": "Exists"}]), known) == "a"


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        (expression("size", "In", "7", "8"), True),
        (expression("size", "NotIn", "7"), False),
        (expression("absent", "NotIn", "7"), True),
        (expression("size", "Exists"), True),
        (expression("absent", "Exists"), False),
        (expression("size", "DoesNotExist"), False),
        (expression("size", "Gt", "6"), True),
        (expression("size", "Gt", "7"), False),
        (expression("size", "Lt", "8"), True),
        (expression("size", "Lt", "x"), False),
        (expression("size", "Near", "7"), False),
        ({}, False),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}, False),
        ({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["b"]}]}, True),
    ],
)
def test_required_affinity_knows_every_operator(term, fits: bool):
    known = snapshot(objects.node("a", labels={"size": "7"}))
    result = schedule(pod := waiting(affinity=required(term)), pod.pending, known)
    assert isinstance(result, Placed) is fits
    if isinstance(result, Unschedulable):
        assert "1 node(s) didn't match Pod's node affinity/selector" in result.message


def test_one_of_several_terms_is_enough_and_a_node_selector_is_needed_too():
    known = snapshot(objects.node("a", labels={"zone": "x"}))
    affinity = required(expression("zone", "In", "y"), expression("zone", "In", "x"))
    assert place(waiting(affinity=affinity), known) == "a"
    assert place(waiting(affinity=affinity, nodeSelector={"zone": "x"}), known) == "a"
    assert place(waiting(affinity=affinity, nodeSelector={"zone": "y"}), known).startswith("0/1")


def test_a_pinned_pod_looks_at_its_node_only():
    known = snapshot(*(objects.node(f"n{number}") for number in range(5)))
    pin = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}
    assert place(waiting(affinity=required(pin)), known) == "n3"
    gone = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n9"]}]}
    wanted = "0/5 nodes are available: 5 node(s) didn't match Pod's node affinity/selector."
    assert place(waiting(affinity=required(gone)), known) == wanted


@pytest.mark.parametrize(
    ("port", "fits"),
    [
        ({"hostPort": 80}, False),
        ({"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 81}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, False),
        ({"hostPort": 90, "hostIP": "10.0.0.1"}, False),
        ({"hostPort": 90, "hostIP": "10.0.0.2"}, True),
        ({"containerPort": 80}, True),
    ],
)
def test_host_ports_must_be_free(port, fits: bool):
    known = snapshot(objects.node("a"))
    taken = [{"hostPort": 80}, {"hostPort": 90, "hostIP": "10.0.0.1"}]
    known.put_pod(objects.pod(node="a", spec={"containers": [{"ports": taken}]}), "a")
    assert (place(waiting(containers=[{"ports": [port]}]), known) == "a") is fits


def test_pods_of_a_node_that_is_unknown_are_counted_when_it_appears():
    known = snapshot()
    known.put_pod(objects.pod(node="late", requests={"cpu": "4"}), "late")
    assert len(known) == 0
    known.put_node(objects.node("late", allocatable={"cpu": "4"}))
    assert (
        place(waiting(requests={"cpu": "1"}), known)
        == "0/1 nodes are available: 1 Insufficient cpu."
    )
    known.remove_node("late")
    assert place(waiting(), known) == "no nodes available to schedule pods"
