# SPDX-License-Identifier: Apache-2.0
"""Where daemon pods belong, and how they are replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kedge.cluster.controllers.daemon_sets.placement import Place, Template, place, pod_for
from kedge.cluster.controllers.daemon_sets.plan import OnNode, Plan, Planner, Strategy, strategy_of
from kedge.cluster.controllers.daemon_sets.status import status_of
from kedge.cluster.machinery.revisions import POD_LABEL
from tests.fakes import objects

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Pod

ROLLING = Strategy(rolling=True, max_unavailable=1, max_surge=0)
SURGE = Strategy(rolling=True, max_unavailable=0, max_surge=1)
ON_DELETE = Strategy(rolling=False, max_unavailable=0, max_surge=0)
HERE = Place(should_run=True, may_stay=True)


def template(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c"}], **spec}}


def daemon(node: str, digest: str = "new", **more: Any) -> Pod:
    return objects.pod(node=node, labels={POD_LABEL: digest}, **{"ready": True, **more})


def on(name: str, *pods: Pod, where: Place = HERE, reachable: bool = True) -> OnNode:
    return OnNode(name, where, reachable, pods)


def plan(strategy: Strategy, *nodes: OnNode) -> Plan:
    return Planner("new", strategy, 0, now=1e9).plan(nodes)


def names(pods: list[Pod]) -> list[str]:
    return [pod.node for pod in pods]


@pytest.mark.parametrize(
    ("taint", "should_run", "may_stay"),
    [
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, True, True),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, True, True),
        ({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}, False, True),
        ({"key": "dedicated", "value": "x", "effect": "NoSchedule"}, False, True),
        ({"key": "dedicated", "value": "x", "effect": "NoExecute"}, False, False),
        ({"key": "dedicated", "value": "x", "effect": "PreferNoSchedule"}, True, True),
    ],
)
def test_daemons_tolerate_what_ails_a_node_but_not_foreign_taints(
    taint, should_run: bool, may_stay: bool
):
    node = objects.node("a", taints=[taint])
    assert place(Template.of(template()), node) == Place(should_run, may_stay)


def test_node_selectors_and_affinity_are_honoured():
    node = objects.node("a", labels={"kind": "edge"})
    assert place(Template.of(template(nodeSelector={"kind": "edge"})), node) == HERE
    assert not place(Template.of(template(nodeSelector={"kind": "cloud"})), node).may_stay
    term = {"matchExpressions": [{"key": "kind", "operator": "NotIn", "values": ["edge"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert not place(Template.of(template(affinity={"nodeAffinity": required})), node).should_run


def test_a_daemon_pod_is_pinned_to_its_node_beside_its_own_terms():
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    expression = {"key": "kind", "operator": "Exists"}
    own = {"nodeAffinity": {field: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}
    body = pod_for(objects.workload("d"), template(affinity=own, hostNetwork=True), "abc", "n1")
    terms = body["spec"]["affinity"]["nodeAffinity"][field]["nodeSelectorTerms"]
    pin = [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
    assert terms == [{"matchExpressions": [expression], "matchFields": pin}]
    assert body["metadata"]["labels"][POD_LABEL] == "abc"
    keys = {each["key"] for each in body["spec"]["tolerations"]}
    assert "node.kubernetes.io/network-unavailable" in keys
    assert "node.kubernetes.io/unreachable" in keys


def test_each_node_gets_one_pod_and_nodes_that_do_not_fit_none():
    nowhere = Place(should_run=False, may_stay=False)
    staying = Place(should_run=False, may_stay=True)
    decided = plan(
        ROLLING,
        on("empty"),
        on("served", daemon("served")),
        on("twice", daemon("twice", created="2026-01-02T00:00:00Z"), daemon("twice")),
        on("unfit", daemon("unfit"), where=nowhere),
        on("tainted", daemon("tainted"), where=staying),
        on("tainted-empty", where=staying),
    )
    assert decided.create == ["empty"]
    assert names(decided.delete) == ["twice", "unfit"]


def test_a_failed_pod_is_deleted_and_a_terminating_one_waited_for():
    decided = plan(
        ROLLING, on("a", daemon("a", phase="Failed")), on("b", daemon("b", deleted=True))
    )
    assert decided.create == []
    assert names(decided.failed) == ["a"]
    assert names(decided.delete) == ["a"]


def test_old_pods_are_replaced_as_many_at_a_time_as_may_be_unavailable():
    decided = plan(ROLLING, *(on(name, daemon(name, "old")) for name in "abc"))
    assert names(decided.delete) == ["a"]
    two = Strategy(rolling=True, max_unavailable=2, max_surge=0)
    assert names(plan(two, *(on(name, daemon(name, "old")) for name in "abc")).delete) == ["a", "b"]


def test_an_unavailable_new_pod_uses_up_what_may_be_unavailable():
    decided = plan(ROLLING, on("a", daemon("a", ready=False)), on("b", daemon("b", "old")))
    assert decided.delete == []


def test_an_unavailable_old_pod_goes_first():
    decided = plan(ROLLING, on("a", daemon("a", "old")), on("b", daemon("b", "old", ready=False)))
    assert names(decided.delete) == ["b"]


def test_a_node_out_of_reach_never_holds_up_the_others():
    away = on("away", daemon("away", "old", ready=False), reachable=False)
    gone = on("gone", daemon("gone", "old", ready=False, deleted=True), reachable=False)
    decided = plan(ROLLING, away, gone, on("b", daemon("b", "old")))
    assert names(decided.delete) == ["away", "b"]


def test_on_delete_replaces_nothing_by_itself():
    assert plan(ON_DELETE, on("a", daemon("a", "old")), on("b")).delete == []
    assert plan(ON_DELETE, on("a", daemon("a", "old")), on("b")).create == ["b"]


def test_a_surge_starts_the_new_pod_before_the_old_one_goes():
    first = plan(SURGE, on("a", daemon("a", "old")), on("b", daemon("b", "old")))
    assert (first.create, first.delete) == (["a"], [])
    starting = on("a", daemon("a", "old"), daemon("a", ready=False))
    second = plan(SURGE, starting, on("b", daemon("b", "old")))
    assert (second.create, second.delete) == ([], [])
    started = on("a", daemon("a", "old"), daemon("a"))
    third = plan(SURGE, started, on("b", daemon("b", "old")))
    assert (third.create, names(third.delete)) == (["b"], ["a"])
    assert third.delete[0].labels[POD_LABEL] == "old"


@pytest.mark.parametrize(
    ("update", "wanted"),
    [
        ({}, ROLLING),
        ({"type": "OnDelete"}, ON_DELETE),
        (
            {"rollingUpdate": {"maxUnavailable": "30%"}},
            Strategy(rolling=True, max_unavailable=3, max_surge=0),
        ),
        (
            {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}},
            Strategy(rolling=True, max_unavailable=0, max_surge=2),
        ),
        ({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, ROLLING),
    ],
)
def test_the_strategy_is_read(update, wanted: Strategy):
    assert strategy_of({"updateStrategy": update}, desired=10) == wanted


def test_status_counts_nodes_not_pods():
    staying = Place(should_run=False, may_stay=True)
    nowhere = Place(should_run=False, may_stay=False)
    nodes = [
        on("a", daemon("a")),
        on("b", daemon("b", "old"), daemon("b", ready=False)),
        on("c"),
        on("d", daemon("d"), where=staying),
        on("e", daemon("e"), where=nowhere),
    ]
    assert status_of(objects.workload("d"), "new", nodes, now=1e9) == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 3,
        "numberReady": 2,
        "observedGeneration": 1,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
        "numberUnavailable": 1,
    }
