# SPDX-License-Identifier: Apache-2.0
"""Which of several nodes is best, and how pods spread."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kedge.cluster.scheduler.core import Placed, Unschedulable, schedule
from kedge.cluster.scheduler.scores import balanced, least
from kedge.cluster.scheduler.snapshot import Snapshot
from tests.fakes import objects

ZONE = "topology.kubernetes.io/zone"


def snapshot(*nodes: Any) -> Snapshot:
    made = Snapshot()
    for node in nodes:
        made.put_node(node)
    return made


def place_many(known: Snapshot, count: int, **pod: Any) -> Counter[str]:
    """Schedules and assumes pods one after the other."""
    where: Counter[str] = Counter()
    for _ in range(count):
        each = objects.pod(phase="Pending", **pod)
        result = schedule(each, each.pending, known)
        name = result.node if isinstance(result, Placed) else result.message
        where[name] += 1
        if isinstance(result, Placed):
            known.put_pod(each, name)
    return where


def constraint(key: str, *, hard: bool = True, skew: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "maxSkew": skew,
        "topologyKey": key,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **more,
    }


def test_the_emptier_node_is_better():
    known = snapshot(objects.node("full"), objects.node("empty"))
    known.put_pod(objects.pod(node="full", requests={"cpu": "3", "memory": "4Gi"}), "full")
    assert place_many(known, 2, requests={"cpu": "100m"}) == {"empty": 2}
    assert least([0.5, 1.0]) == 75
    assert balanced([0.5, 0.5]) == 100
    assert balanced([0.0, 1.0]) == 50


def test_pods_that_request_nothing_spread_too():
    known = snapshot(*(objects.node(name) for name in "abc"))
    assert place_many(known, 9) == {"a": 3, "b": 3, "c": 3}


def test_a_node_with_a_disliked_taint_comes_last():
    taint = {"key": "old", "effect": "PreferNoSchedule"}
    known = snapshot(
        objects.node("old", taints=[taint]), objects.node("new", allocatable={"cpu": "1"})
    )
    assert place_many(known, 3) == {"new": 3}
    tolerating = snapshot(
        objects.node("old", taints=[taint]), objects.node("new", allocatable={"cpu": "1"})
    )
    wanted = {"tolerations": [{"key": "old", "operator": "Exists"}]}
    assert place_many(tolerating, 1, spec=wanted, requests={"cpu": "500m"}) == {"old": 1}


def test_preferred_affinity_weighs():
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    preferred = [{"weight": 50, "preference": term}]
    field = "preferredDuringSchedulingIgnoredDuringExecution"
    spec = {"affinity": {"nodeAffinity": {field: preferred}}}
    known = snapshot(objects.node("a"), objects.node("b", labels={"disk": "ssd"}))
    assert place_many(known, 3, spec=spec) == {"b": 3}


def test_pods_of_one_owner_spread_over_hosts_and_zones():
    nodes = [
        objects.node(f"{zone}{number}", labels={ZONE: zone}) for zone in "xy" for number in (1, 2)
    ]
    known = snapshot(*nodes)
    known.put_pod(objects.pod(node="y1", requests={"cpu": "1"}), "y1")
    where = place_many(known, 4, owner="rs-1")
    assert where == {"x1": 1, "x2": 1, "y1": 1, "y2": 1}


def test_a_hard_constraint_keeps_the_skew():
    known = snapshot(
        objects.node("a", labels={ZONE: "x"}),
        objects.node("b", labels={ZONE: "y"}, allocatable={"pods": "1"}),
    )
    pod = {"labels": {"app": "web"}, "spec": {"topologySpreadConstraints": [constraint(ZONE)]}}
    where = place_many(known, 4, **pod)
    assert (where["a"], where["b"]) == (2, 1)
    message = "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints."
    assert where[message] == 1


def test_a_node_without_the_topology_key_is_refused_by_name():
    known = snapshot(objects.node("a"))
    pod = objects.pod(labels={"app": "web"}, spec={"topologySpreadConstraints": [constraint(ZONE)]})
    result = schedule(pod, pod.pending, known)
    assert isinstance(result, Unschedulable)
    assert "(missing required label)" in result.message


def test_min_domains_holds_pods_back_until_there_are_enough():
    known = snapshot(objects.node("a", labels={ZONE: "x"}))
    spread = [constraint(ZONE, minDomains=2)]
    pod = {"labels": {"app": "web"}, "spec": {"topologySpreadConstraints": spread}}
    assert place_many(known, 2, **pod)["a"] == 1


def test_match_label_keys_count_only_pods_of_the_same_template():
    known = snapshot(objects.node("a"), objects.node("b"))
    old = {"app": "web", "pod-template-hash": "old"}
    for _ in range(3):
        known.put_pod(objects.pod(node="a", labels=old), "a")
    host = "kubernetes.io/hostname"
    spread = [constraint(host, matchLabelKeys=["pod-template-hash"])]
    new = {
        "labels": {"app": "web", "pod-template-hash": "new"},
        "spec": {"topologySpreadConstraints": spread},
    }
    assert place_many(known, 4, **new) == {"a": 2, "b": 2}


def test_a_soft_constraint_prefers_and_never_refuses():
    known = snapshot(objects.node("a"), objects.node("b", allocatable={"pods": "1"}))
    soft = [constraint("kubernetes.io/hostname", hard=False)]
    pod = {"labels": {"app": "web"}, "spec": {"topologySpreadConstraints": soft}}
    assert place_many(known, 4, **pod) == {"a": 3, "b": 1}


def test_counts_by_selector_follow_pods_that_come_and_go():
    known = snapshot(objects.node("a"), objects.node("b"))
    soft = [constraint("kubernetes.io/hostname")]
    pod = {"labels": {"app": "web"}, "spec": {"topologySpreadConstraints": soft}}
    first = objects.pod(node="a", labels={"app": "web"})
    known.put_pod(first, "a")
    assert place_many(known, 1, **pod) == {"b": 1}
    known.remove_pod(first.key)
    assert place_many(known, 1, **pod) == {"a": 1}


def test_among_thousands_of_nodes_not_all_are_looked_at_and_all_take_turns():
    known = snapshot(*(objects.node(f"n{number}") for number in range(1000)))
    where = place_many(known, 20)
    assert set(where.values()) == {1}
    assert max(int(name[1:]) for name in where) > 500
