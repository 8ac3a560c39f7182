# SPDX-License-Identifier: Apache-2.0
"""Stock kubectl, Debian's 1.20 and a current one, against a real ``python -m kedge.cluster``."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import NODE
from tests.rig.kubectl import Kubectl
from tests.rig.processes import wait_until

if TYPE_CHECKING:
    pass

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WEB = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: "web:1", ports: [{containerPort: 80}]}
"""


def deployed(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")


def test_apply_creates_then_leaves_alone_then_configures(kubectl):
    assert "deployment.apps/web created" in kubectl("apply", "-f", "-", stdin=WEB)
    assert "deployment.apps/web unchanged" in kubectl("apply", "-f", "-", stdin=WEB)
    changed = WEB.replace("web:1", "web:2")
    assert kubectl.run("diff", "-f", "-", stdin=changed, code=1).stdout.count("web:2") == 1
    assert "deployment.apps/web configured" in kubectl("apply", "-f", "-", stdin=changed)
    assert (
        kubectl(
            "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
        )
        == "web:2"
    )


def test_apply_removes_what_left_the_manifest(kubectl):
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("apply", "-f", "-", stdin=WEB.replace("data: {colour: blue}", "data: {size: big}"))
    assert kubectl.json("get", "configmap", "settings")["data"] == {"size": "big"}


def test_get_prints_tables_wide_yaml_and_json(kubectl):
    deployed(kubectl)
    assert re.search(r"^web\s+2/2\s+2\s+2\s", kubectl("get", "deployments"), re.MULTILINE)
    wide = kubectl("get", "pods", "-o", "wide")
    assert wide.count("1/1") == 2
    assert NODE in wide
    assert "image: web:1" in kubectl("get", "pods", "-o", "yaml")
    assert len(kubectl.json("get", "all")["items"]) == 4
    assert "No resources found" in kubectl.run("get", "pods", "-l", "app=none").stderr


def test_get_with_watch_shows_a_change(kubectl):
    kubectl("create", "configmap", "c")
    command = [
        kubectl.program,
        "--kubeconfig",
        str(kubectl.kubeconfig),
        "-n",
        kubectl.namespace,
        "get",
        "configmaps",
        "-w",
        "--request-timeout=4s",
    ]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    kubectl("create", "configmap", "later", "--from-literal=a=b")
    output, _ = watch.communicate(timeout=30)
    assert re.search(r"^later\s+1\s", output, re.MULTILINE)


def test_describe_shows_conditions_and_events(kubectl):
    deployed(kubectl)
    text = kubectl("describe", "deployment", "web")
    assert "ScalingReplicaSet" in text
    assert re.search(r"Available\s+True", text)
    assert "Scheduled" in kubectl("describe", "pods")


def test_scale_and_rollout_with_history_and_undo(kubectl):
    deployed(kubectl)
    kubectl("scale", "deployment", "web", "--replicas=3")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    kubectl("set", "image", "deployment/web", "web=web:2")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    history = kubectl("rollout", "history", "deployment/web")
    assert re.findall(r"^(\d+)", history, re.MULTILINE) == ["1", "2"]
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    found = kubectl.json("get", "deployment", "web")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"
    assert found["status"]["readyReplicas"] == 3
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")


def test_label_annotate_and_patch_of_every_type(kubectl):
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    kubectl("label", "configmap", "c", "tier=front")
    kubectl("annotate", "configmap", "c", "note=yes")
    kubectl("patch", "configmap", "c", "-p", '{"data":{"b":"2"}}')
    kubectl("patch", "configmap", "c", "--type=merge", "-p", '{"data":{"a":null}}')
    kubectl(
        "patch",
        "configmap",
        "c",
        "--type=json",
        "-p",
        '[{"op":"add","path":"/data/c","value":"3"}]',
    )
    found = kubectl.json("get", "configmap", "c")
    assert found["data"] == {"b": "2", "c": "3"}
    assert found["metadata"]["labels"] == {"tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "yes"
    kubectl("label", "configmap", "c", "tier-")
    assert "labels" not in kubectl.json("get", "configmap", "c")["metadata"]


def test_edit_changes_an_object_with_an_editor(kubectl, tmp_path):
    kubectl("create", "configmap", "c", "--from-literal=colour=blue")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/blue/green/ "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl("edit", "configmap", "c", EDITOR=str(editor))
    assert kubectl.json("get", "configmap", "c")["data"] == {"colour": "green"}


def test_taint_cordon_and_drain(kubectl):
    deployed(kubectl)
    kubectl("taint", "node", NODE, "a=b:PreferNoSchedule")
    assert kubectl.json("get", "node", NODE)["spec"]["taints"][0]["key"] == "a"
    kubectl("taint", "node", NODE, "a-")
    kubectl("cordon", NODE)
    try:
        assert "SchedulingDisabled" in kubectl("get", "nodes")
        before = {pod["metadata"]["name"] for pod in kubectl.json("get", "pods")["items"]}
        kubectl(
            "drain",
            NODE,
            "--ignore-daemonsets",
            "--timeout=30s",
            "--force",
            "--pod-selector=app=web",
        )
        after = kubectl.json("get", "pods")["items"]
        assert not before & {pod["metadata"]["name"] for pod in after}
        assert all("nodeName" not in pod["spec"] for pod in after)
    finally:
        kubectl("uncordon", NODE)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")


def test_wait_sees_conditions_and_deletion(kubectl):
    kubectl("run", "one", "--image=one:1", "--restart=Never")
    kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")
    kubectl("delete", "pod", "one", "--wait=false")
    kubectl.run("wait", "--for=delete", "pod/one", "--timeout=20s", code=None)
    assert "not found" in kubectl.run("get", "pod", "one", code=1).stderr


def test_delete_takes_what_is_owned_along(kubectl):
    deployed(kubectl)
    kubectl("delete", "deployment", "web", "--timeout=20s")
    wait_until(lambda: not kubectl.json("get", "pods,replicasets")["items"], 20, "all is gone")


def test_explain_prints_descriptions_from_upstream(kubectl):
    text = kubectl("explain", "pod.spec.containers")
    assert "List of containers belonging to the pod" in " ".join(text.split())
    assert "imagePullPolicy" in text
    assert "Entrypoint array" in " ".join(
        kubectl("explain", "deployment.spec.template.spec.containers.command").split()
    )


def test_a_wrong_manifest_is_refused_with_the_field(kubectl):
    unknown = kubectl.run("create", "-f", "-", stdin=WEB.replace("replicas", "replicass"), code=1)
    assert re.search(r"unknown field.*replicass", unknown.stderr)
    invalid = kubectl.run(
        "create", "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: -2"), code=1
    )
    assert '"web" is invalid: spec.replicas: Invalid value: -2: must be' in invalid.stderr
    assert "already exists" in kubectl.run("create", "namespace", "default", code=1).stderr


def test_a_service_account_gets_tokens_and_permissions_are_told(kubectl):
    assert kubectl("auth", "can-i", "create", "deployments").strip() == "yes"
    pod = "run", "one", "--image=one:1", "--restart=Never"
    kubectl(*pod)
    volumes = kubectl.json("get", "pod", "one")["spec"]["volumes"]
    sources = [next(iter(source)) for source in volumes[0]["projected"]["sources"]]
    assert sources == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert "ca.crt" in kubectl.json("get", "configmap", "kube-root-ca.crt")["data"]


def test_a_deleted_namespace_takes_everything_along(kubectl):
    kubectl("create", "namespace", kubectl.namespace + "-x")
    kubectl("create", "configmap", "c", "-n", kubectl.namespace + "-x")
    kubectl("delete", "namespace", kubectl.namespace + "-x", "--timeout=30s")
    assert "not found" in kubectl.run("get", "namespace", kubectl.namespace + "-x", code=1).stderr
