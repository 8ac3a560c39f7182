# SPDX-License-Identifier: Apache-2.0
"""Rules and defaults of StatefulSets, ControllerRevisions and ReplicationControllers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kedge.api import defaults, validation
from kedge.api.kinds import of
from kedge.errors import Invalid

CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def template(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i:1"}]
    return {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers, **spec}}


def made(group: str, resource: str, **spec: Any) -> dict[str, Any]:
    obj = {"metadata": {"name": "d", "namespace": "default"}, "spec": spec}
    defaults.apply(group, resource, obj)
    return obj


def stateful_set(**spec: Any) -> dict[str, Any]:
    shared = {"selector": {"matchLabels": {"app": "d"}}, "template": template()}
    return made("apps", "statefulsets", **{**shared, **spec})


def controller(**spec: Any) -> dict[str, Any]:
    return made("", "replicationcontrollers", **{"template": template(), **spec})


def causes(group: str, resource: str, obj: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        validation.validate(of(group, resource), obj)
    except Invalid as error:
        assert error.details is not None
        return [(each["field"], each["message"]) for each in error.details["causes"]]
    return []


def test_a_stateful_set_gets_upstreams_defaults():
    obj = stateful_set(volumeClaimTemplates=[copy.deepcopy(CLAIM)])
    spec = obj["spec"]
    assert spec["replicas"] == 1
    assert spec["revisionHistoryLimit"] == 10
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"partition": 0, "maxUnavailable": 1},
    }
    assert spec["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    (claim,) = spec["volumeClaimTemplates"]
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["volumeMode"] == "Filesystem"
    assert claim["status"] == {"phase": "Pending"}
    assert obj["status"] == {"replicas": 0, "availableReplicas": 0}
    assert causes("apps", "statefulsets", obj) == []


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"type": "RollingUpdate"}, {"type": "RollingUpdate"}),
        ({"type": "OnDelete"}, {"type": "OnDelete"}),
        (
            {"rollingUpdate": {"partition": 2}},
            {"type": "RollingUpdate", "rollingUpdate": {"partition": 2, "maxUnavailable": 1}},
        ),
    ],
)
def test_a_strategy_is_completed_where_upstream_does(given, stored):
    assert stateful_set(updateStrategy=given)["spec"]["updateStrategy"] == stored


def test_a_replication_controller_selects_what_it_makes():
    obj = controller()
    assert obj["spec"]["selector"] == obj["metadata"]["labels"] == {"app": "d"}
    assert obj["spec"]["replicas"] == 1
    assert obj["status"] == {"replicas": 0}
    assert causes("", "replicationcontrollers", obj) == []


NEGATIVE = "Invalid value: -1: must be greater than or equal to 0"
ROLLING = "spec.updateStrategy.rollingUpdate"


def rolling(**fields: Any) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": fields}}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            {"podManagementPolicy": "Some"},
            "spec.podManagementPolicy",
            "Invalid value: \"Some\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            {"updateStrategy": {"type": "Some"}},
            "spec.updateStrategy",
            "Invalid value: {\"type\":\"Some\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}},
            ROLLING,
            "Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
        ),
        (rolling(partition=-1), f"{ROLLING}.partition", NEGATIVE),
        (rolling(maxUnavailable=0), f"{ROLLING}.maxUnavailable", "Invalid value: 0: cannot be 0"),
        (
            rolling(maxUnavailable="0%"),
            f"{ROLLING}.maxUnavailable",
            'Invalid value: "0%": cannot be 0',
        ),
        (
            rolling(maxUnavailable="101%"),
            f"{ROLLING}.maxUnavailable",
            'Invalid value: "101%": must not be greater than 100%',
        ),
        ({"replicas": -1}, "spec.replicas", NEGATIVE),
        ({"minReadySeconds": -1}, "spec.minReadySeconds", NEGATIVE),
        ({"ordinals": {"start": -1}}, "spec.ordinals.start", NEGATIVE),
        ({"selector": None}, "spec.selector", "Required value"),
        (
            {"selector": {}},
            "spec.selector",
            "Invalid value: {}: empty selector is invalid for statefulset",
        ),
        (
            {"selector": {"matchLabels": {"app": "x"}}},
            "spec.template.metadata.labels",
            'Invalid value: {"app":"d"}: `selector` does not match template `labels`',
        ),
        (
            {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Some"}},
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
            'Unsupported value: "Some": supported values: "Delete", "Retain"',
        ),
        (
            {"template": template(restartPolicy="Never")},
            "spec.template.spec.restartPolicy",
            'Unsupported value: "Never": supported values: "Always"',
        ),
        (
            {"template": template(activeDeadlineSeconds=5)},
            "spec.template.spec.activeDeadlineSeconds",
            "Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ),
        (
            {"volumeClaimTemplates": [{"metadata": {"name": "a"}, "spec": {}}]},
            "spec.volumeClaimTemplates[0].spec.accessModes",
            "Required value: at least 1 access mode is required",
        ),
    ],
)
def test_a_stateful_set_is_refused_in_upstreams_words(spec, field: str, message: str):
    assert (field, message) in causes("apps", "statefulsets", stateful_set(**spec))


def test_names_are_labels_and_mounts_may_be_of_claims():
    obj = stateful_set()
    obj["metadata"]["name"] = "a.b"
    assert [field for field, _ in causes("apps", "statefulsets", obj)] == ["metadata.name"]
    assert [
        field for field, _ in causes("apps", "statefulsets", stateful_set(serviceName="A"))
    ] == ["spec.serviceName"]
    mounted = template(
        containers=[
            {"name": "c", "image": "i:1", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
        ]
    )
    bare = stateful_set(template=copy.deepcopy(mounted))
    assert [field for field, _ in causes("apps", "statefulsets", bare)] == [
        "spec.template.spec.containers[0].volumeMounts[0].name"
    ]
    claims = [copy.deepcopy(CLAIM)]
    assert (
        causes("apps", "statefulsets", stateful_set(template=mounted, volumeClaimTemplates=claims))
        == []
    )


@pytest.mark.parametrize(
    ("changes", "is_allowed"),
    [
        ({"replicas": 5}, True),
        ({"ordinals": {"start": 3}}, True),
        ({"minReadySeconds": 3, "revisionHistoryLimit": 1}, True),
        ({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}, True),
        ({"updateStrategy": {"type": "OnDelete"}}, True),
        ({"podManagementPolicy": "Parallel"}, False),
        ({"serviceName": "s"}, False),
        ({"volumeClaimTemplates": [CLAIM]}, False),
    ],
)
def test_only_some_of_a_stateful_set_changes(changes, is_allowed: bool):
    old, new = stateful_set(), stateful_set(**copy.deepcopy(changes))
    if is_allowed:
        validation.validate_update(of("apps", "statefulsets"), new, old)
        return
    with pytest.raises(Invalid, match="updates to statefulset spec for fields other than"):
        validation.validate_update(of("apps", "statefulsets"), new, old)


@pytest.mark.parametrize(
    ("group", "resource", "status", "message"),
    [
        ("apps", "statefulsets", {"replicas": 1, "readyReplicas": 2}, "status.replicas"),
        ("apps", "statefulsets", {"replicas": 2, "availableReplicas": 1}, "status.readyReplicas"),
        (
            "apps",
            "replicasets",
            {"replicas": 1, "readyReplicas": 2},
            "cannot be greater than replicas",
        ),
        ("", "replicationcontrollers", {"replicas": -1}, "must be greater than or equal to 0"),
        ("apps", "statefulsets", {"replicas": -1}, "must be greater than or equal to 0"),
    ],
)
def test_a_part_is_not_more_than_the_whole(group: str, resource: str, status, message: str):
    obj = {"metadata": {"name": "d"}, "status": status}
    with pytest.raises(Invalid, match=message):
        validation.validate_status(of(group, resource), obj)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"template": None}, "spec.template", "Required value"),
        (
            {"template": {"metadata": {}, "spec": template()["spec"]}},
            "spec.selector",
            "Required value",
        ),
        ({"replicas": -1}, "spec.replicas", NEGATIVE),
        (
            {"selector": {"app": "x"}},
            "spec.template.metadata.labels",
            'Invalid value: {"app":"d"}: `selector` does not match template `labels`',
        ),
    ],
)
def test_a_replication_controller_is_refused_in_upstreams_words(spec, field: str, message: str):
    obj = controller(**{name: value for name, value in spec.items() if value is not None})
    for name, value in spec.items():
        if value is None:
            del obj["spec"][name]
    assert (field, message) in causes("", "replicationcontrollers", obj)


def test_what_a_revision_holds_never_changes():
    kind = of("apps", "controllerrevisions")
    old = {"metadata": {"name": "r", "namespace": "default"}, "data": {"a": 1}, "revision": 1}
    validation.validate(kind, old)
    validation.validate_update(kind, {**old, "revision": 2}, old)
    with pytest.raises(Invalid, match="data: Invalid value"):
        validation.validate_update(kind, {**old, "data": {"a": 2}}, old)
    bare = {"metadata": old["metadata"], "revision": -1}
    assert causes("apps", "controllerrevisions", bare) == [
        ("data", "Required value: data is mandatory"),
        ("revision", NEGATIVE),
    ]
