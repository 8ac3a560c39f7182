# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from typing import Any

import pytest

from kedge.api import defaults, validation
from kedge.api.kinds import find
from kedge.api.validation import metadata, pods
from kedge.api.validation.problems import Problems
from kedge.errors import Invalid


def pod(**spec):
    obj = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec},
    }
    defaults.apply("", "pods", obj)
    return obj


def deployment(**spec):
    obj = {
        "metadata": {"name": "d", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {
                "metadata": {"labels": {"app": "d"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
            **spec,
        },
    }
    defaults.apply("apps", "deployments", obj)
    return obj


def causes(group, resource, obj):
    kind = find(group, resource)
    assert kind is not None
    with pytest.raises(Invalid) as caught:
        validation.validate(kind, obj)
    assert caught.value.details is not None
    return {(cause["field"], cause["reason"]) for cause in caught.value.details["causes"]}


def container(**fields):
    return pod(containers=[{"name": "c", "image": "i", **fields}])


def test_a_defaulted_pod_and_deployment_are_valid():
    validation.validate(find("", "pods"), pod())
    validation.validate(find("apps", "deployments"), deployment())


@pytest.mark.parametrize(
    ("obj", "field", "reason"),
    [
        (pod(containers=[]), "spec.containers", "FieldValueRequired"),
        (container(name="Bad_Name"), "spec.containers[0].name", "FieldValueInvalid"),
        (container(image=""), "spec.containers[0].image", "FieldValueRequired"),
        (container(ports=[{"containerPort": 70000}]), "spec.containers[0].ports[0].containerPort", "FieldValueInvalid"),
        (container(env=[{"name": "a=b"}]), "spec.containers[0].env[0].name", "FieldValueInvalid"),
        (container(imagePullPolicy="Sometimes"), "spec.containers[0].imagePullPolicy", "FieldValueNotSupported"),
        (container(volumeMounts=[{"name": "v", "mountPath": "/v"}]), "spec.containers[0].volumeMounts[0].name", "FieldValueNotFound"),
        (container(livenessProbe={"periodSeconds": 1}), "spec.containers[0].livenessProbe", "FieldValueRequired"),
        (container(resources={"limits": {"a.example/b": "500m"}}), "spec.containers[0].resources.limits[a.example/b]", "FieldValueInvalid"),
        (container(resources={"requests": {"a.example/b": "1"}}), "spec.containers[0].resources.limits[a.example/b]", "FieldValueRequired"),
        (container(resources={"requests": {"a.example/b": "1"}, "limits": {"a.example/b": "2"}}), "spec.containers[0].resources.requests", "FieldValueInvalid"),
        (container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}), "spec.containers[0].resources.requests", "FieldValueInvalid"),
        (pod(volumes=[{"name": "v"}, {"name": "v"}]), "spec.volumes[1].name", "FieldValueDuplicate"),
        (pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath", "FieldValueForbidden"),
        (pod(restartPolicy="Maybe"), "spec.restartPolicy", "FieldValueNotSupported"),
        (pod(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator", "FieldValueInvalid"),
        (pod(nodeSelector={"bad key!": "x"}), "spec.nodeSelector", "FieldValueInvalid"),
    ],
)  # fmt: skip
def test_a_pod_against_a_rule_names_the_field(obj, field, reason):
    assert (field, reason) in causes("", "pods", obj)


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (deployment(replicas=-1), "spec.replicas"),
        (deployment(selector={"matchLabels": {"app": "other"}}), "spec.template.metadata.labels"),
        (deployment(selector={}), "spec.selector"),
        (deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}), "spec.strategy.rollingUpdate.maxUnavailable"),
        (deployment(strategy={"type": "Recreate", "rollingUpdate": {}}), "spec.strategy.rollingUpdate"),
    ],
)  # fmt: skip
def test_a_deployment_against_a_rule_names_the_field(obj, field):
    assert field in {name for name, _ in causes("apps", "deployments", obj)}


def test_the_message_reads_as_upstream_writes_it():
    with pytest.raises(Invalid) as caught:
        validation.validate(find("apps", "deployments"), deployment(replicas=-1))
    assert caught.value.message == (
        'Deployment.apps "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )


def change(obj, path, value):
    new = copy.deepcopy(obj)
    inner = new
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return new


@pytest.mark.parametrize(
    ("group", "resource", "old", "path", "value", "allowed"),
    [
        ("", "pods", pod(), ("spec", "containers", 0, "image"), "i:2", True),
        ("", "pods", pod(), ("spec", "containers", 0, "command"), ["x"], False),
        ("", "pods", pod(), ("spec", "nodeName"), "n", False),
        ("", "pods", pod(), ("metadata", "labels"), {"a": "b"}, True),
        ("", "pods", pod(), ("metadata", "uid"), "other", False),
        ("", "pods", pod(), ("spec", "tolerations"), [{"operator": "Exists"}], True),
        ("apps", "deployments", deployment(), ("spec", "selector"), {"matchLabels": {"app": "d", "x": "y"}}, False),
        ("apps", "deployments", deployment(), ("spec", "replicas"), 3, True),
        ("", "configmaps", {"metadata": {"name": "c"}, "data": {}, "immutable": True}, ("data",), {"a": "b"}, False),
        ("", "configmaps", {"metadata": {"name": "c"}, "data": {}}, ("data",), {"a": "b"}, True),
        ("", "secrets", {"metadata": {"name": "s"}, "type": "Opaque"}, ("type",), "other", False),
    ],
)  # fmt: skip
def test_what_may_change_and_what_not(group, resource, old, path, value, allowed):
    kind = find(group, resource)
    assert kind is not None
    new = change(old, path, value)
    if allowed:
        validation.validate_update(kind, new, old)
    else:
        with pytest.raises(Invalid):
            validation.validate_update(kind, new, old)


@pytest.mark.parametrize(
    ("written", "holds"),
    [
        ("2026-11-25T22:33:50Z", True),
        ("2026-11-25T22:33:50+00:00", True),
        ("2026-11-25T23:33:50.000000+01:00", True),
        ("2026-11-25T22:33:51Z", False),
        ("yesterday", False),
        (7, False),
    ],
)
def test_a_time_may_be_spelled_in_any_way_and_is_kept_in_one(written: Any, holds: bool) -> None:
    old = {"name": "a", "creationTimestamp": "2026-11-25T22:33:50Z"}
    new = {"name": "a", "creationTimestamp": written}
    problems = Problems()
    metadata.validate_update(new, old, problems)
    assert (not problems) is holds
    assert (new == old) is holds


def test_the_pods_own_resources_decide_its_quality_of_service():
    bound = {"cpu": "1", "memory": "1Mi"}
    spec = {"containers": [{"name": "a"}], "resources": {"limits": bound, "requests": bound}}
    assert pods.qos_class(spec) == "Guaranteed"
    assert pods.qos_class(spec | {"resources": {"limits": {"cpu": "1"}}}) == "Burstable"
    assert pods.qos_class({"containers": [{"name": "a"}]}) == "BestEffort"
