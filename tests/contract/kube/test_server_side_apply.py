# SPDX-License-Identifier: Apache-2.0
"""The documented behaviour of server-side apply, by number, with kubectl and the official Python client.

The numbers follow Kubernetes' page on server-side apply: 1 field management, 2 conflicts, 3 managers,
4 merge strategy, 5 giving up fields, 6 transferring ownership, 7 subresources, 8 clients that know nothing of it,
9 moving from and to client-side apply, 10 what cannot be applied.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.rig import control
from tests.rig.kubectl import Kubectl, newer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    directory = tmp_path_factory.mktemp("cluster")
    with control.cluster(directory) as kubeconfig:
        yield Kubectl(newer(), kubeconfig, "default", directory)


@pytest.fixture(scope="module")
def kube(kubectl: Kubectl) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kubernetes

        kubernetes.config.load_kube_config(str(kubectl.kubeconfig))
    return kubernetes


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, replicas: int | None = 1, image: str = "i:1", **container: Any) -> Any:
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": name}}}
    if replicas is not None:
        spec["replicas"] = replicas
    spec["template"] = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": image, **container}]},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def apply(kubectl: Kubectl, obj: Any, manager: str = "", *more: str, code: int = 0) -> str:
    words = ["apply", "--server-side", "-f", "-", *more]
    words += [f"--field-manager={manager}"] if manager else []
    done = kubectl.run(*words, stdin=json.dumps(obj), code=code)
    return done.stdout + done.stderr


def owners(kubectl: Kubectl, what: str) -> dict[tuple[str, str, str], Any]:
    found = kubectl.json("get", what, "--show-managed-fields")
    return {
        (one["manager"], one["operation"], one.get("subresource", "")): one["fieldsV1"]
        for one in found["metadata"].get("managedFields", [])
    }


def test_1_an_applied_object_belongs_to_kubectl(kubectl):
    assert "serverside-applied" in apply(kubectl, config_map("one", a="1"))
    assert owners(kubectl, "cm/one") == {("kubectl", "Apply", ""): {"f:data": {"f:a": {}}}}
    version = kubectl.json("get", "cm/one")["metadata"]["resourceVersion"]
    apply(kubectl, config_map("one", a="1"))
    assert kubectl.json("get", "cm/one")["metadata"]["resourceVersion"] == version


def test_1_managed_fields_are_hidden_unless_asked_for(kubectl):
    apply(kubectl, config_map("hidden", a="1"))
    assert "managedFields" not in kubectl("get", "cm/hidden", "-o", "yaml")
    assert "managedFields" in kubectl("get", "cm/hidden", "-o", "yaml", "--show-managed-fields")


def test_1_a_create_and_an_edit_are_updates_by_the_program(kubectl):
    kubectl("create", "-f", "-", stdin=json.dumps(config_map("made", a="1")))
    kubectl("annotate", "cm/made", "x=y")
    assert owners(kubectl, "cm/made") == {
        ("kubectl-create", "Update", ""): {"f:data": {".": {}, "f:a": {}}},
        ("kubectl-annotate", "Update", ""): {"f:metadata": {"f:annotations": {".": {}, "f:x": {}}}},
    }


def test_2_conflicts_name_the_field_and_its_manager(kubectl):
    apply(kubectl, config_map("two", a="1"), "first")
    told = apply(kubectl, config_map("two", a="2"), "second", code=1)
    assert 'Apply failed with 1 conflict: conflict with "first": .data.a' in told
    assert kubectl.json("get", "cm/two")["data"] == {"a": "1"}


def test_2_force_takes_the_field(kubectl):
    apply(kubectl, config_map("forced", a="1", b="1"), "first")
    apply(kubectl, config_map("forced", a="2"), "second", "--force-conflicts")
    assert kubectl.json("get", "cm/forced")["data"] == {"a": "2", "b": "1"}
    assert owners(kubectl, "cm/forced") == {
        ("first", "Apply", ""): {"f:data": {"f:b": {}}},
        ("second", "Apply", ""): {"f:data": {"f:a": {}}},
    }


def test_2_the_same_value_is_shared(kubectl):
    apply(kubectl, config_map("shared", a="1"), "first")
    apply(kubectl, config_map("shared", a="1"), "second")
    assert set(owners(kubectl, "cm/shared")) == {("first", "Apply", ""), ("second", "Apply", "")}
    told = apply(kubectl, config_map("shared", a="2"), "first", code=1)
    assert 'conflict with "second": .data.a' in told


def test_2_a_patch_never_conflicts(kubectl, kube):
    apply(kubectl, config_map("patched", a="1"))
    core = kube.client.CoreV1Api()
    core.patch_namespaced_config_map("patched", "default", {"data": {"a": "2"}}, field_manager="py")
    assert owners(kubectl, "cm/patched") == {("py", "Update", ""): {"f:data": {"f:a": {}}}}
    told = apply(kubectl, config_map("patched", a="1"), code=1)
    assert 'conflict with "py" using v1: .data.a' in told


def test_2_the_status_has_a_cause_for_each_conflict(kubectl, kube):
    apply(kubectl, config_map("causes", a="1", b="1"), "first")
    api = kube.dynamic.DynamicClient(kube.client.ApiClient())
    maps = api.resources.get(api_version="v1", kind="ConfigMap")
    with pytest.raises(kube.dynamic.exceptions.ConflictError) as caught:
        maps.server_side_apply(
            config_map("causes", a="2", b="2"), namespace="default", field_manager="second"
        )
    status = json.loads(caught.value.body)
    assert (status["reason"], status["code"]) == ("Conflict", 409)
    assert status["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "first"',
            "field": f".data.{key}",
        }
        for key in "ab"
    ]


def test_3_the_python_clients_program_is_the_manager(kube):
    core = kube.client.CoreV1Api()
    made = core.create_namespaced_config_map("default", config_map("program", a="1"))
    assert [one.manager for one in made.metadata.managed_fields] == ["OpenAPI-Generator"]
    assert made.metadata.managed_fields[0].fields_type == "FieldsV1"


def test_3_an_apply_without_a_manager_is_refused(kube):
    maps = kube.dynamic.DynamicClient(kube.client.ApiClient()).resources.get(
        api_version="v1", kind="ConfigMap"
    )
    with pytest.raises(kube.dynamic.exceptions.UnprocessibleEntityError) as caught:
        maps.server_side_apply(config_map("nobody", a="1"), namespace="default")
    told = json.loads(caught.value.body)["message"]
    assert told == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )


def test_4_maps_lists_by_key_and_sets_are_merged(kubectl):
    first = deployment("merged", env=[{"name": "A", "value": "1"}], args=["x"])
    first["metadata"] |= {"labels": {"a": "1"}, "finalizers": ["example.com/a"]}
    apply(kubectl, first, "first")
    second = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "merged",
            "labels": {"b": "2"},
            "finalizers": ["example.com/b"],
        },
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {"name": "c", "env": [{"name": "B", "value": "2"}]},
                        {"name": "d", "image": "i:2"},
                    ]
                }
            }
        },
    }
    apply(kubectl, second, "second")
    found = kubectl.json("get", "deploy/merged")
    assert found["metadata"]["labels"] == {"a": "1", "b": "2"}
    assert found["metadata"]["finalizers"] == ["example.com/a", "example.com/b"]
    one, two = found["spec"]["template"]["spec"]["containers"]
    assert [item["name"] for item in one["env"]] == ["A", "B"]
    assert (one["image"], two["image"]) == ("i:1", "i:2")
    kubectl("patch", "deploy/merged", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_4_ports_are_told_apart_by_number_and_protocol(kubectl):
    port: dict[str, Any] = {"containerPort": 53, "name": "tcp"}
    apply(kubectl, deployment("ports", ports=[port]), "first")
    udp = {"containerPort": 53, "protocol": "UDP", "name": "udp"}
    apply(kubectl, deployment("ports", ports=[udp]), "second")
    [container] = kubectl.json("get", "deploy/ports")["spec"]["template"]["spec"]["containers"]
    assert [one["protocol"] for one in container["ports"]] == ["TCP", "UDP"]


def test_4_atomic_lists_and_maps_have_one_owner(kubectl):
    apply(kubectl, deployment("atomic", args=["x"]), "first")
    told = apply(kubectl, deployment("atomic", args=["x", "y"]), "second", code=1)
    assert '.spec.template.spec.containers[name="c"].args' in told
    other = deployment("atomic")
    other["spec"]["template"]["spec"]["containers"][0].pop("image")
    other["spec"]["selector"]["matchLabels"]["more"] = "1"
    told = apply(kubectl, other, "third", code=1)
    assert ".spec.selector\n" in told + "\n"


def test_5_what_is_left_out_goes_and_defaults_come_back(kubectl):
    apply(kubectl, deployment("left", replicas=3, env=[{"name": "A", "value": "1"}]))
    apply(kubectl, deployment("left", replicas=None))
    found = kubectl.json("get", "deploy/left")["spec"]
    assert found["replicas"] == 1
    assert "env" not in found["template"]["spec"]["containers"][0]


def test_5_what_somebody_else_has_too_stays(kubectl):
    apply(kubectl, config_map("stays", a="1", b="1"), "first")
    apply(kubectl, config_map("stays", a="1"), "second")
    apply(kubectl, config_map("stays", b="1"), "first")
    assert kubectl.json("get", "cm/stays")["data"] == {"a": "1", "b": "1"}
    assert owners(kubectl, "cm/stays") == {
        ("first", "Apply", ""): {"f:data": {"f:b": {}}},
        ("second", "Apply", ""): {"f:data": {"f:a": {}}},
    }


def test_6_replicas_are_handed_over_to_an_autoscaler(kubectl):
    apply(kubectl, deployment("handed", replicas=3))
    claim = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "handed"}}
    apply(kubectl, {**claim, "spec": {"replicas": 3}}, "handover")
    apply(kubectl, deployment("handed", replicas=None))
    assert kubectl.json("get", "deploy/handed")["spec"]["replicas"] == 3
    assert owners(kubectl, "deploy/handed")["handover", "Apply", ""] == {
        "f:spec": {"f:replicas": {}}
    }


def test_7_a_scale_takes_the_replicas(kubectl):
    apply(kubectl, deployment("scaled", replicas=1))
    kubectl("scale", "deploy/scaled", "--replicas=2")
    found = owners(kubectl, "deploy/scaled")
    assert found["kubectl", "Update", "scale"] == {"f:spec": {"f:replicas": {}}}
    told = apply(kubectl, deployment("scaled", replicas=1), code=1)
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in told


def test_7_a_status_is_owned_by_itself(kubectl):
    service: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    spec = {"ports": [{"port": 80}], "type": "LoadBalancer"}
    apply(kubectl, {**service, "spec": spec, "status": {"loadBalancer": {}}})
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    apply(kubectl, service | status, "lb", "--subresource=status")
    found = owners(kubectl, "svc/s")
    assert "f:status" not in found["kubectl", "Apply", ""]
    assert set(found["lb", "Apply", "status"]) == {"f:status"}
    ingress = kubectl.json("get", "svc/s")["status"]["loadBalancer"]["ingress"]
    assert ingress[0]["ip"] == "192.0.2.1"


def test_7_controllers_own_what_they_write(kubectl):
    apply(kubectl, deployment("run"))
    kubectl("wait", "deploy/run", "--for=jsonpath={.status.observedGeneration}=1", "--timeout=20s")
    found = owners(kubectl, "deploy/run")
    assert set(found["kube-controller-manager", "Update", "status"]) == {"f:status"}


def test_8_a_replace_without_owners_keeps_them(kubectl):
    apply(kubectl, config_map("replaced", a="1"))
    live = kubectl.json("get", "cm/replaced")
    live["data"]["b"] = "2"
    kubectl("replace", "-f", "-", stdin=json.dumps(live))
    assert owners(kubectl, "cm/replaced") == {
        ("kubectl", "Apply", ""): {"f:data": {"f:a": {}}},
        ("kubectl-replace", "Update", ""): {"f:data": {"f:b": {}}},
    }


def test_8_owners_can_be_cleared(kubectl):
    apply(kubectl, config_map("cleared", a="1"))
    patch = '{"metadata":{"managedFields":[{}]}}'
    kubectl("patch", "cm/cleared", "--type=merge", "-p", patch)
    assert owners(kubectl, "cm/cleared") == {}
    apply(kubectl, config_map("cleared", a="2"), code=1)
    apply(kubectl, config_map("cleared", a="2"), "", "--force-conflicts")
    assert owners(kubectl, "cm/cleared") == {
        ("before-first-apply", "Update", ""): {"f:data": {}},
        ("kubectl", "Apply", ""): {"f:data": {"f:a": {}}},
    }


def test_9_client_side_apply_is_taken_over_without_conflict(kubectl):
    kubectl("apply", "-f", "-", stdin=json.dumps(deployment("moved", replicas=1)))
    apply(kubectl, deployment("moved", replicas=2, image="i:2"))
    apply(kubectl, deployment("moved", replicas=None, image="i:2"))
    found = kubectl.json("get", "deploy/moved", "--show-managed-fields")
    assert found["spec"]["replicas"] == 1
    named = [one["manager"] for one in found["metadata"]["managedFields"]]
    assert "kubectl-client-side-apply" not in named
    applied = json.loads(found["metadata"]["annotations"][LAST_APPLIED])
    assert "replicas" not in applied["spec"]
    kubectl("apply", "-f", "-", stdin=json.dumps(deployment("moved", replicas=4, image="i:3")))
    assert kubectl.json("get", "deploy/moved")["spec"]["replicas"] == 4


def test_9_the_last_configuration_is_viewed_and_edited(kubectl, tmp_path):
    kubectl("apply", "-f", "-", stdin=json.dumps(config_map("edited", a="1")))
    viewed = yaml.safe_load(kubectl("apply", "view-last-applied", "cm/edited"))
    assert viewed["data"] == {"a": "1"}
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/a: .*/a: "9"/\' "$1"\n')
    editor.chmod(0o700)
    kubectl("apply", "edit-last-applied", "cm/edited", EDITOR=str(editor))
    viewed = yaml.safe_load(kubectl("apply", "view-last-applied", "cm/edited"))
    assert viewed["data"] == {"a": "9"}


def test_10_fields_that_are_not_there_are_refused(kubectl):
    odd = deployment("odd")
    odd["spec"]["odd"] = 1
    assert (
        "Error from server: failed to create typed patch object (default/odd; apps/v1, Kind=Deployment): "
        ".spec.odd: field not declared in schema"
    ) in apply(kubectl, odd, code=1)


def test_10_a_dry_run_stores_nothing(kubectl):
    told = apply(kubectl, config_map("dry", a="1"), "", "--dry-run=server")
    assert "serverside-applied (server dry run)" in told
    assert kubectl.run("get", "cm/dry", code=1).returncode == 1


def test_10_a_diff_shows_what_an_apply_would_do(kubectl):
    apply(kubectl, config_map("differs", a="1"))
    words = ("diff", "--server-side", "-f", "-")
    done = kubectl.run(*words, stdin=json.dumps(config_map("differs", a="2")), code=1)
    assert '+  a: "2"' in done.stdout
