# SPDX-License-Identifier: Apache-2.0
"""How many pods a ReplicaSet creates or deletes, and which."""

from __future__ import annotations

import pytest

from kedge.cluster.controllers.replica_sets.plan import (
    BURST,
    claim,
    deletion_order,
    plan,
    seconds_to_next_available,
    status_of,
)
from tests.fakes import objects


@pytest.mark.parametrize(
    ("replicas", "present", "created", "deleted"),
    [
        (3, 0, 3, 0),
        (3, 2, 1, 0),
        (3, 3, 0, 0),
        (1, 3, 0, 2),
        (0, 2, 0, 2),
        (BURST + 9, 0, BURST, 0),
    ],
)
def test_the_difference_is_created_or_deleted(
    replicas: int, present: int, created: int, deleted: int
):
    pods = [objects.pod(node="a") for _ in range(present)]
    decided = plan(objects.workload(replicas=replicas), pods)
    assert (decided.create, len(decided.delete)) == (created, deleted)


def test_finished_and_deleted_pods_are_replaced():
    pods = [objects.pod(phase="Failed"), objects.pod(phase="Succeeded"), objects.pod(deleted=True)]
    assert plan(objects.workload(replicas=2), pods).create == 2


def test_a_pod_that_is_not_ready_is_not_missing():
    pods = [objects.pod(node="away", ready=False), objects.pod(node="here", ready=True)]
    decided = plan(objects.workload(replicas=2), pods)
    assert (decided.create, decided.delete) == (0, ())


def test_a_replica_set_that_is_deleted_creates_nothing():
    assert plan(objects.workload(replicas=3, deleted=True), []).create == 0


def test_pods_go_in_the_order_of_upstream():
    unassigned = objects.pod("unassigned", phase="Pending")
    pending = objects.pod("pending", node="a", phase="Pending")
    unready = objects.pod("unready", node="b")
    cheap = objects.pod("cheap", node="c", ready=True, cost=-5)
    together = objects.pod("together", node="d", ready=True, ready_since=1)
    also = objects.pod("also", node="d", ready=True, ready_since=1)
    restarted = objects.pod("restarted", node="e", ready=True, ready_since=1, restarts=4)
    young = objects.pod(
        "young", node="f", ready=True, ready_since=1, created="2026-01-09T00:00:00Z"
    )
    old = objects.pod("old", node="g", ready=True, ready_since=1)
    wanted = [unassigned, pending, unready, cheap, together, also, restarted, young, old]
    names = [pod.name for pod in deletion_order(wanted[::-1])]
    assert names[:4] == ["unassigned", "pending", "unready", "cheap"]
    assert set(names[4:6]) == {"together", "also"}
    assert names[6:] == ["restarted", "young", "old"]


def test_matching_strays_are_adopted_and_strangers_released():
    record = objects.workload(labels={"app": "web"})
    mine = objects.pod(labels={"app": "web"}, owner=record.uid)
    relabelled = objects.pod(labels={"app": "debug"}, owner=record.uid)
    stray, other, finished = (
        objects.pod(labels={"app": "web"}),
        objects.pod(labels={"app": "db"}),
        objects.pod(labels={"app": "web"}, phase="Failed"),
    )
    claimed = claim(record, [mine, relabelled], [stray, other, finished])
    assert claimed.owned == (mine,)
    assert claimed.adopt == (stray,)
    assert claimed.release == (relabelled,)


def test_a_replica_set_that_is_deleted_adopts_nothing():
    record = objects.workload(deleted=True)
    assert claim(record, [], [objects.pod(labels={"app": "web"})]).adopt == ()


def test_status_counts_active_pods_only():
    record = objects.workload(replicas=4, min_ready_seconds=10)
    pods = [
        objects.pod(labels={"app": "web"}, ready=True, ready_since=100),
        objects.pod(labels={"app": "web", "extra": "1"}, ready=True, ready_since=108),
        objects.pod(labels={}),
        objects.pod(labels={"app": "web"}, phase="Failed"),
        objects.pod(labels={"app": "web"}, ready=True, deleted=True),
    ]
    status = status_of(record, {"app": "web"}, pods, now=112)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 1,
    }
    assert seconds_to_next_available(record, pods, now=112) == 6
