# SPDX-License-Identifier: Apache-2.0
"""What a Deployment does next."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cluster.controllers.deployments import history
from kedge.cluster.controllers.deployments.model import Deployment, ReplicaSet, fenceposts
from kedge.cluster.controllers.deployments.rollout import decide
from kedge.cluster.machinery import conditions

NOW = 1_800_000_000.0


def template(image: str = "v1") -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def deployment(replicas: int = 4, image: str = "v1", **spec: Any) -> dict[str, Any]:
    status = spec.pop("status", {})
    annotations = spec.pop("annotations", {})
    return {
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": "d",
            "generation": 3,
            "annotations": annotations,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1},
            },
            **spec,
        },
        "status": status,
    }


def replica_set(
    image: str,
    replicas: int,
    *,
    available: int | None = None,
    revision: int = 1,
    desired: int = 4,
    created: int = 0,
    maximum: int | None = None,
) -> dict[str, Any]:
    available = replicas if available is None else available
    body = template(image)
    digest = history.template_hash(body, 0)
    body["metadata"] = {"labels": {"app": "web", "pod-template-hash": digest}}
    return {
        "metadata": {
            "name": f"web-{image}",
            "uid": f"uid-{image}",
            "generation": 1,
            "creationTimestamp": f"2026-01-01T00:00:{created:02d}Z",
            "annotations": {
                "deployment.kubernetes.io/revision": str(revision),
                "deployment.kubernetes.io/desired-replicas": str(desired),
                "deployment.kubernetes.io/max-replicas": str(maximum or desired + 1),
            },
        },
        "spec": {"replicas": replicas, "template": body},
        "status": {
            "replicas": replicas,
            "readyReplicas": available,
            "availableReplicas": available,
            "observedGeneration": 1,
        },
    }


def sizes(decision: Any) -> dict[str, int]:
    return {step.replica_set.name: step.replicas for step in decision.scale}


def look(body: dict[str, Any], *replica_sets: dict[str, Any], old_pods: bool = False) -> Any:
    return decide(body, replica_sets, old_pods=old_pods, now=NOW)


@pytest.mark.parametrize(
    ("rolling", "replicas", "surge", "unavailable"),
    [
        ({}, 4, 1, 1),
        ({}, 10, 3, 2),
        ({"maxSurge": "25%", "maxUnavailable": "25%"}, 1, 1, 0),
        ({"maxSurge": 0, "maxUnavailable": 0}, 5, 0, 1),
        ({"maxSurge": 0, "maxUnavailable": "10%"}, 5, 0, 1),
        ({"maxSurge": "100%", "maxUnavailable": 2}, 5, 5, 2),
    ],
)
def test_surge_is_rounded_up_and_unavailable_down(
    rolling, replicas: int, surge: int, unavailable: int
):
    assert fenceposts(rolling, replicas) == (surge, unavailable)


def test_the_first_replica_set_gets_all_replicas_and_revision_one():
    decision = look(deployment(4))
    created = decision.create
    assert created["spec"]["replicas"] == 4
    digest = created["metadata"]["labels"]["pod-template-hash"]
    assert created["metadata"]["name"] == f"web-{digest}"
    assert created["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
    assert created["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == digest
    assert created["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert created["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"] == "5"
    assert created["metadata"]["ownerReferences"][0]["controller"] is True


def test_a_new_template_starts_within_the_surge():
    decision = look(deployment(4, "v2"), replica_set("v1", 4))
    assert decision.create["spec"]["replicas"] == 1
    assert decision.create["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


@pytest.mark.parametrize(
    ("old", "old_available", "new", "new_available", "wanted"),
    [
        (4, 4, 1, 0, {"web-v1": 3}),
        (3, 3, 1, 0, {"web-v2": 2}),
        (3, 3, 2, 0, {}),
        (3, 3, 2, 2, {"web-v1": 1}),
        (1, 1, 2, 2, {"web-v2": 4}),
        (1, 1, 4, 4, {"web-v1": 0}),
        (0, 0, 4, 4, {}),
        (4, 2, 1, 0, {"web-v1": 3}),
        (4, 0, 1, 1, {"web-v1": 2}),
    ],
)
def test_a_rolling_update_moves_in_steps(
    old: int, old_available: int, new: int, new_available: int, wanted
):
    decision = look(
        deployment(4, "v2"),
        replica_set("v1", old, available=old_available),
        replica_set("v2", new, available=new_available, revision=2, created=1),
    )
    assert sizes(decision) == wanted


def test_recreate_waits_until_the_old_pods_are_gone():
    body = deployment(3, "v2", strategy={"type": "Recreate"})
    assert sizes(look(body, replica_set("v1", 3, desired=3))) == {"web-v1": 0}
    waiting = look(body, replica_set("v1", 0, desired=3), old_pods=True)
    assert waiting.create is None
    assert sizes(waiting) == {}
    assert look(body, replica_set("v1", 0, desired=3)).create["spec"]["replicas"] == 3


def test_a_rollback_gives_the_old_replica_set_the_newest_revision():
    decision = look(
        deployment(4, "v1", annotations={"deployment.kubernetes.io/revision": "2"}),
        replica_set("v1", 0, revision=1),
        replica_set("v2", 4, revision=2, created=1),
    )
    assert decision.create is None
    ((target, patch),) = decision.annotate
    assert target.name == "web-v1"
    assert patch["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "3",
        "deployment.kubernetes.io/revision-history": "1",
    }
    assert decision.revision == "3"
    assert sizes(decision) == {"web-v1": 1}


def test_a_paused_deployment_scales_but_does_not_roll():
    body = deployment(6, "v2", paused=True)
    decision = look(body, replica_set("v1", 4))
    assert decision.create is None
    assert sizes(decision) == {"web-v1": 6}
    progressing = conditions.find(decision.status["conditions"], "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("Unknown", "DeploymentPaused")


def test_scaling_in_the_middle_of_a_rollout_is_proportional():
    body = deployment(20, "v2", strategy={"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 2}})
    decision = look(
        body,
        replica_set("v1", 8, desired=10, maximum=12),
        replica_set("v2", 4, desired=10, maximum=12, revision=2, created=1),
    )
    assert sum(sizes(decision).values()) == 22
    assert sizes(decision) == {"web-v1": 15, "web-v2": 7}


def test_scaling_down_to_zero_empties_every_replica_set():
    decision = look(
        deployment(0, "v2"), replica_set("v1", 3), replica_set("v2", 2, revision=2, created=1)
    )
    assert sizes(decision) == {"web-v1": 0, "web-v2": 0}


def test_old_replica_sets_over_the_limit_are_forgotten_once_the_rollout_is_through():
    body = deployment(1, "v4", revisionHistoryLimit=1)
    old = [replica_set(f"v{n}", 0, revision=n, desired=1, created=n) for n in (1, 2, 3)]
    new = replica_set("v4", 1, revision=4, desired=1, created=4)
    assert [each.name for each in look(body, *old, new).delete] == ["web-v1", "web-v2"]
    busy = replica_set("v4", 1, available=0, revision=4, desired=1, created=4)
    assert look(body, *old, busy).delete == []


def test_status_is_complete_only_when_all_are_new_and_available():
    done = look(deployment(4), replica_set("v1", 4)).status
    assert done["observedGeneration"] == 3
    assert (done["replicas"], done["updatedReplicas"], done["availableReplicas"]) == (4, 4, 4)
    assert done["unavailableReplicas"] == 0
    progressing = conditions.find(done["conditions"], "Progressing")
    assert progressing["reason"] == "NewReplicaSetAvailable"
    assert progressing["message"] == 'ReplicaSet "web-v1" has successfully progressed.'
    assert conditions.find(done["conditions"], "Available")["status"] == "True"


def test_a_rollout_that_stands_still_past_its_deadline_is_reported():
    started = conditions.with_condition(
        [],
        "Progressing",
        "True",
        reason="ReplicaSetUpdated",
        message="",
        now=NOW - 601,
        updates=True,
    )
    numbers = {"updatedReplicas": 1, "replicas": 4, "readyReplicas": 3, "availableReplicas": 3}
    body = deployment(4, "v2", status={**numbers, "conditions": started})
    old, new = replica_set("v1", 3), replica_set("v2", 1, available=0, revision=2, created=1)
    late = conditions.find(look(body, old, new).status["conditions"], "Progressing")
    assert (late["status"], late["reason"]) == ("False", "ProgressDeadlineExceeded")


def test_a_rollout_under_way_is_looked_at_again_at_its_deadline():
    started = conditions.with_condition(
        [],
        "Progressing",
        "True",
        reason="ReplicaSetUpdated",
        message="",
        now=NOW - 100,
        updates=True,
    )
    numbers = {"updatedReplicas": 1, "replicas": 4, "readyReplicas": 3, "availableReplicas": 3}
    body = deployment(4, "v2", status={**numbers, "conditions": started})
    decision = look(
        body, replica_set("v1", 3), replica_set("v2", 1, available=0, revision=2, created=1)
    )
    assert decision.again_seconds == pytest.approx(501)


def test_a_second_look_at_a_settled_deployment_changes_nothing():
    body = deployment(4, annotations={"deployment.kubernetes.io/revision": "1"})
    first = look(body, replica_set("v1", 4))
    settled = {**body, "status": first.status}
    second = decide(settled, [replica_set("v1", 4)], old_pods=False, now=NOW + 60)
    assert second.status == first.status
    assert not (second.create)
    assert not (second.scale)
    assert not (second.annotate)
    assert not (second.delete)
    assert not (second.revision)
    assert second.again_seconds is None


def test_a_failure_of_a_replica_set_is_shown():
    failing = replica_set("v1", 4, available=0)
    failing["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no room"}
    ]
    shown = conditions.find(look(deployment(4), failing).status["conditions"], "ReplicaFailure")
    assert shown["message"] == "no room"


def test_the_template_hash_ignores_the_hash_label_and_the_order_of_keys():
    plain = template()
    labelled = {
        "spec": plain["spec"],
        "metadata": {"labels": {"pod-template-hash": "x", "app": "web"}},
    }
    assert history.template_hash(plain, 0) == history.template_hash(labelled, 0)
    assert history.template_hash(plain, 0) != history.template_hash(plain, 1)


def test_a_deployment_on_its_way_out_does_nothing_but_report():
    body = deployment(4, "v2")
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    decision = look(body, replica_set("v1", 2))
    assert not any((decision.create, decision.scale, decision.annotate))
    assert decision.status["replicas"] == 2


def test_views_read_what_admission_leaves_out():
    bare = {
        "metadata": {"name": "w", "namespace": "d", "uid": "u"},
        "spec": {"selector": {}, "template": {}},
    }
    assert Deployment.of(bare).replicas == 1
    assert ReplicaSet.of({**bare, "spec": {"template": {}}}).replicas == 1
