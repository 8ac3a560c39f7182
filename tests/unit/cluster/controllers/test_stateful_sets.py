# SPDX-License-Identifier: Apache-2.0
"""What a StatefulSet does about its pods, who owns its claims, and what it reports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kedge.cluster.controllers.stateful_sets.claims import Holder, Owners
from kedge.cluster.controllers.stateful_sets.model import Retention, StatefulSet
from kedge.cluster.controllers.stateful_sets.plan import (
    BURST,
    Create,
    Delete,
    Member,
    Mend,
    Planner,
    Provide,
    Revisions,
)
from kedge.cluster.controllers.stateful_sets.pods import claims_for, pod_for
from kedge.cluster.controllers.stateful_sets.status import changes, status_of
from kedge.cluster.machinery.revisions import POD_LABEL, Revision, data_of
from kedge.cluster.machinery.wire import OwnerReference
from tests.fakes import objects

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Pod

NOW = 1e9
SAME = Revisions("web-new", "web-new")
OTHER = Revisions("web-old", "web-new")


def stored(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "set"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def wanted(**spec: Any) -> StatefulSet:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    return StatefulSet.of(stored(**{"updateStrategy": rolling, **spec}))


def rolling(**fields: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": fields}


def pod(ordinal: int, revision: str = "web-new", **fields: Any) -> Pod:
    labels = {POD_LABEL: revision}
    return objects.pod(f"web-{ordinal}", labels=labels, **{"ready": True, **fields})


def plan(
    stateful_set: StatefulSet,
    *pods: Pod,
    revisions: Revisions = SAME,
    stale: tuple[int, ...] = (),
) -> list[str]:
    """What is done, a word for each step, phases apart."""
    planner = Planner(stateful_set, revisions, NOW, lambda ordinal: ordinal in stale)
    members = []
    for each in pods:
        ordinal = stateful_set.ordinal_of(each)
        assert ordinal is not None
        members.append(Member(ordinal, each))
    found = []
    for phase in planner.plan(members):
        for step in phase:
            match step:
                case Create(ordinal, revision):
                    found.append(f"+{ordinal} {revision.removeprefix('web-')}")
                case Delete(one):
                    found.append(f"-{one.name.removeprefix('web-')}")
                case _:
                    raise AssertionError(step)
    return found


PARALLEL = {"podManagementPolicy": "Parallel"}
UNREADY: dict[str, Any] = {"ready": False}


@pytest.mark.parametrize(
    ("spec", "pods", "steps"),
    [
        ({}, [], ["+0 new"]),
        ({}, [pod(0, **UNREADY)], []),
        ({}, [pod(0, deleted=True)], []),
        ({}, [pod(0)], ["+1 new"]),
        ({}, [pod(0), pod(2)], ["+1 new"]),
        ({}, [pod(0), pod(1), pod(2)], []),
        ({}, [pod(0), pod(1, phase="Failed", **UNREADY)], ["-1"]),
        ({}, [pod(0, phase="Succeeded", **UNREADY)], ["-0"]),
        ({}, [pod(0, phase="Failed", deleted=True)], []),
        ({"minReadySeconds": 10}, [pod(0, ready_since=NOW - 5)], []),
        ({"minReadySeconds": 10}, [pod(0, ready_since=NOW - 15)], ["+1 new"]),
        ({"ordinals": {"start": 7}, "replicas": 2}, [pod(7)], ["+8 new"]),
        (PARALLEL, [], ["+0 new", "+1 new", "+2 new"]),
        (PARALLEL, [pod(1, **UNREADY)], ["+0 new", "+2 new"]),
        (PARALLEL, [pod(0, phase="Failed"), pod(1, deleted=True)], ["-0", "+2 new"]),
    ],
)
def test_pods_that_should_be_there_are_made(spec: dict[str, Any], pods: list[Pod], steps):
    assert plan(wanted(**spec), *pods) == steps


@pytest.mark.parametrize(
    ("spec", "pods", "steps"),
    [
        ({}, [pod(0), pod(1), pod(2)], ["-2"]),
        ({}, [pod(0), pod(1), pod(2, deleted=True)], []),
        ({}, [pod(0, **UNREADY), pod(1), pod(2)], []),
        # the one that is broken goes if it is the first of the broken ones
        ({}, [pod(0), pod(1), pod(2, **UNREADY)], ["-2"]),
        ({}, [pod(0), pod(1, **UNREADY), pod(2, **UNREADY)], []),
        ({}, [pod(0), pod(1, **UNREADY), pod(2)], ["-2"]),
        (PARALLEL, [pod(0), pod(1, **UNREADY), pod(2, **UNREADY)], ["-2", "-1"]),
        ({"ordinals": {"start": 1}}, [pod(0), pod(1), pod(2)], ["-2"]),
        ({"ordinals": {"start": 2}}, [pod(0), pod(2)], ["-0"]),
        ({"ordinals": {"start": 2}}, [pod(0), pod(1)], ["+2 new"]),
    ],
)
def test_pods_that_are_too_many_go_the_highest_first(spec: dict[str, Any], pods: list[Pod], steps):
    assert plan(wanted(**{"replicas": 1, **spec}), *pods) == steps


def old(ordinal: int, **fields: Any) -> Pod:
    return pod(ordinal, "web-old", **fields)


@pytest.mark.parametrize(
    ("spec", "pods", "steps"),
    [
        ({}, [old(0), old(1), old(2)], ["-2"]),
        ({}, [old(0), old(1), pod(2)], ["-1"]),
        ({}, [old(0), old(1), pod(2, **UNREADY)], []),
        ({}, [old(0), old(1)], ["+2 new"]),
        ({"updateStrategy": {"type": "OnDelete"}}, [old(0), old(1), old(2)], []),
        ({"updateStrategy": rolling(partition=2)}, [old(0), old(1), old(2)], ["-2"]),
        ({"updateStrategy": rolling(partition=2)}, [old(0), old(1), pod(2)], []),
        ({"updateStrategy": rolling(partition=2)}, [], ["+0 old"]),
        ({"updateStrategy": rolling(partition=2)}, [old(0), old(1)], ["+2 new"]),
        ({"updateStrategy": rolling(maxUnavailable=2)}, [old(0), old(1), old(2)], ["-2", "-1"]),
        ({"updateStrategy": rolling(maxUnavailable="67%")}, [old(0), old(1), old(2)], ["-2", "-1"]),
        ({"updateStrategy": rolling(maxUnavailable="10%")}, [old(0), old(1), old(2)], ["-2"]),
        (
            {**PARALLEL, "updateStrategy": rolling(maxUnavailable=2)},
            [old(0), old(1), pod(2, **UNREADY)],
            ["-1"],
        ),
        # what is broken is replaced without asking
        (
            {**PARALLEL, "updateStrategy": rolling(maxUnavailable=1)},
            [old(0, **UNREADY), old(1, **UNREADY), old(2)],
            ["-1", "-0"],
        ),
        (
            {**PARALLEL, "updateStrategy": rolling(maxUnavailable=1)},
            [old(0), old(1), pod(2, deleted=True)],
            [],
        ),
        # once is enough
        ({**PARALLEL, "replicas": 1}, [old(0, phase="Failed", **UNREADY)], ["-0"]),
        (
            {"ordinals": {"start": 4}, "updateStrategy": rolling(partition=1)},
            [old(4), old(5), pod(6)],
            ["-5"],
        ),
    ],
)
def test_older_pods_are_replaced_the_highest_first(spec: dict[str, Any], pods: list[Pod], steps):
    assert plan(wanted(**spec), *pods, revisions=OTHER) == steps


def test_scaling_comes_before_updating():
    assert plan(wanted(replicas=1), old(0), old(1), revisions=OTHER) == ["-1"]
    parallel = wanted(replicas=1, **PARALLEL)
    assert plan(parallel, old(0), old(1), revisions=OTHER) == ["-1", "-0"]


def test_without_a_partition_lost_pods_come_back_as_the_current_ones_were():
    body = stored(updateStrategy={"type": "RollingUpdate"})
    body["status"] = {"currentReplicas": 2}
    kept = StatefulSet.of(body)
    assert plan(kept, revisions=OTHER) == ["+0 old"]
    assert plan(kept, old(0), old(1), revisions=OTHER) == ["+2 new"]


def test_a_pod_waits_for_claims_that_go_with_its_predecessor():
    assert plan(wanted(), pod(0), stale=(1,)) == []
    assert plan(wanted(**PARALLEL), stale=(1,)) == ["+0 new", "+2 new"]


def test_a_turn_is_bounded():
    assert len(plan(wanted(replicas=1 << 31, **PARALLEL))) == BURST


def test_a_pod_is_mended_and_its_claims_are_made():
    planner = Planner(wanted(**PARALLEL, replicas=2), SAME, NOW)
    pending = pod(0, phase="Pending", **UNREADY)
    stranger, extra = pod(1), pod(5)
    members = [
        Member(0, pending, lacks=True),
        Member(1, stranger, fits=False),
        Member(5, extra, fits=False),
    ]
    assert planner.plan(members) == [
        [Provide(pending), Mend(stranger)],
        [Mend(extra)],
        [Delete(extra)],
    ]
    ordered = Planner(wanted(replicas=2), SAME, NOW)
    unready = Member(0, pod(0, **UNREADY), fits=False)
    assert ordered.plan([unready]) == []


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [
        ("web-0", 0),
        ("web-12", 12),
        ("web-01", None),
        ("web", None),
        ("web-a-1", None),
        ("other-1", None),
        ("web-9999999999", None),
    ],
)
def test_members_are_known_by_their_names(name: str, ordinal: int | None):
    assert wanted().ordinal_of(objects.pod(name)) == ordinal


# --- what is created

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "annotations": {"a": "b"}, "labels": {"app": "other"}},
    "spec": {"accessModes": ["ReadWriteOnce"]},
    "status": {"phase": "Pending"},
}


def test_a_pod_has_its_claims_in_place_of_volumes_with_their_names():
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]},
    }
    revision = Revision("web-1", "u", 1, "", {}, data_of(template))
    body = pod_for(objects.workload(), stored(volumeClaimTemplates=[CLAIM]), revision, 4)
    assert body["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-4"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert body["spec"]["hostname"] == "web-4"
    assert "subdomain" not in body["spec"]


def test_a_claim_is_its_template_with_the_sets_labels():
    claim = claims_for(stored(volumeClaimTemplates=[CLAIM]), 2)["data"]
    assert claim["metadata"] == {
        "name": "data-web-2",
        "namespace": "default",
        "annotations": {"a": "b"},
        "labels": {"app": "web"},
    }
    assert "status" not in claim


# --- who owns claims

SET = Holder("apps/v1", "StatefulSet", "web", "set")
POD = Holder("v1", "Pod", "web-1", "pod")


def references(*holders: Holder, controller: bool = True) -> tuple[OwnerReference, ...]:
    return tuple(
        OwnerReference(each.uid, each.kind, each.name, each.api_version, controller)
        for each in holders
    )


@pytest.mark.parametrize(
    ("deleted", "scaled", "is_wanted", "expected"),
    [
        (False, False, True, ()),
        (False, False, False, ()),
        (True, False, True, (SET,)),
        (True, False, False, (SET,)),
        (False, True, True, ()),
        (False, True, False, (POD,)),
        (True, True, True, (SET,)),
        (True, True, False, (POD,)),
    ],
)
def test_claims_are_owned_as_the_policy_says(
    deleted: bool, scaled: bool, is_wanted: bool, expected: tuple[Holder, ...]
):
    owners = Owners(SET, POD, Retention(deleted, scaled), is_wanted=is_wanted)
    for present in ((), (SET,), (POD,), (SET, POD)):
        assert owners.are_right(references(*present)) == (present == expected)
        before = [each.reference for each in present]
        assert owners.corrected(before) == [each.reference for each in expected]
    assert owners.are_right(references(*expected, controller=False)) == (expected == ())


def test_claims_of_others_are_left_alone():
    owners = Owners(SET, POD, Retention(when_deleted=True, when_scaled=True), is_wanted=True)
    earlier = SET._replace(uid="before")
    assert owners.are_right(references(earlier))
    other = Holder("x/v1", "Other", "o", "o")
    assert owners.conflict(references(other))
    assert owners.are_right(references(other))
    assert not owners.are_right(references(other, SET))
    assert owners.corrected([other.reference, SET.reference]) == [other.reference]
    assert not owners.conflict(references(other, controller=False))
    keeps = Owners(SET, POD, Retention(when_deleted=False, when_scaled=False), is_wanted=True)
    assert not keeps.conflict(references(other))


# --- what is reported


def test_counts_are_of_pods_by_readiness_and_revision():
    pods = [pod(0), old(1, ready_since=NOW - 1), pod(2, deleted=True), old(3, ready=False)]
    counted = status_of(wanted(minReadySeconds=5), OTHER, pods, NOW)
    assert counted == {
        "replicas": 4,
        "readyReplicas": 3,
        "availableReplicas": 2,
        "currentReplicas": 2,
        "updatedReplicas": 1,
        "currentRevision": "web-old",
        "updateRevision": "web-new",
    }


def test_a_rollout_is_over_when_every_pod_is_new_and_ready():
    pods = [pod(0), pod(1), pod(2)]
    assert status_of(wanted(), OTHER, pods, NOW)["currentRevision"] == "web-new"
    on_delete = wanted(updateStrategy={"type": "OnDelete"})
    assert status_of(on_delete, OTHER, pods, NOW)["currentRevision"] == "web-old"
    assert status_of(replace(wanted(), replicas=4), OTHER, pods, NOW)["currentRevision"] == (
        "web-old"
    )


def test_only_what_changed_is_written_and_what_others_wrote_stays():
    before = {"replicas": 1, "readyReplicas": 1, "conditions": [{"type": "Mine"}]}
    after = {"replicas": 1, "readyReplicas": 0, "availableReplicas": 0}
    assert changes(before, after) == {"readyReplicas": None, "availableReplicas": 0}
    assert changes(before | {"availableReplicas": 0}, after | {"readyReplicas": 1}) == {}
