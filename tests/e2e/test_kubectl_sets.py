# SPDX-License-Identifier: Apache-2.0
"""Stock kubectl on StatefulSets, DaemonSets and ReplicationControllers of a real ``python -m kedge.cluster``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.rig.processes import wait_until

if TYPE_CHECKING:
    from tests.rig.kubectl import Kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SET = """
apiVersion: apps/v1
kind: {kind}
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  {more}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: web, image: "web:1"}}
"""
STATEFUL = SET.format(kind="StatefulSet", more="serviceName: web\n  replicas: 2")
DAEMON = SET.format(kind="DaemonSet", more="minReadySeconds: 0")
REPLICATION = """
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: old}}
    spec:
      containers: [{name: old, image: "old:1"}]
"""


def rolled_out(kubectl: Kubectl, what: str) -> str:
    return kubectl("rollout", "status", what, "--timeout=40s")


def images(kubectl: Kubectl) -> set[str]:
    pods = kubectl.json("get", "pods", "-l", "app=web")["items"]
    return {one["spec"]["containers"][0]["image"] for one in pods}


@pytest.mark.parametrize(
    ("what", "manifest"), [("statefulset/web", STATEFUL), ("daemonset/web", DAEMON)]
)
def test_rollout_status_history_undo_and_restart(kubectl, what: str, manifest: str):
    kubectl("apply", "-f", "-", stdin=manifest)
    rolled_out(kubectl, what)
    kubectl("annotate", what, "kubernetes.io/change-cause=second")
    kubectl("set", "image", what, "web=web:2")
    rolled_out(kubectl, what)
    assert images(kubectl) == {"web:2"}
    history = kubectl("rollout", "history", what)
    assert re.findall(r"^(\d+)\s+(\S+)", history, re.MULTILINE) == [
        ("1", "<none>"),
        ("2", "second"),
    ]
    assert "web:1" in kubectl("rollout", "history", what, "--revision=1")
    kubectl("rollout", "undo", what)
    rolled_out(kubectl, what)
    assert images(kubectl) == {"web:1"}
    history = kubectl("rollout", "history", what)
    assert re.findall(r"^(\d+)", history, re.MULTILINE) == ["2", "3"]
    kubectl("rollout", "undo", what, "--to-revision=2")
    rolled_out(kubectl, what)
    assert images(kubectl) == {"web:2"}
    kubectl("rollout", "restart", what)
    rolled_out(kubectl, what)
    assert len(kubectl.json("get", "controllerrevisions")["items"]) == 3


def test_a_stateful_set_is_scaled_described_and_deleted_but_for_its_pods(kubectl):
    kubectl("apply", "-f", "-", stdin=STATEFUL)
    rolled_out(kubectl, "sts/web")
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=STATEFUL)
    kubectl("scale", "sts", "web", "--replicas=3")
    rolled_out(kubectl, "sts/web")
    pods = kubectl.json("get", "pods", "-l", "app=web")["items"]
    assert [one["metadata"]["name"] for one in pods] == ["web-0", "web-1", "web-2"]
    text = kubectl("describe", "sts", "web")
    assert "create Pod web-0 in StatefulSet web successful" in text
    assert re.search(r"Pods Status:\s+3 Running", text)
    kubectl("delete", "sts", "web", "--cascade=orphan")
    left = kubectl.json("get", "pods", "-l", "app=web")["items"]
    assert [one["metadata"]["uid"] for one in left] == [one["metadata"]["uid"] for one in pods]
    kubectl("apply", "-f", "-", stdin=STATEFUL.replace("replicas: 2", "replicas: 3"))
    rolled_out(kubectl, "sts/web")
    again = kubectl.json("get", "pods", "-l", "app=web")["items"]
    assert [one["metadata"]["uid"] for one in again] == [one["metadata"]["uid"] for one in pods]
    refused = kubectl.run(
        "patch", "sts", "web", "-p", json.dumps({"spec": {"serviceName": "x"}}), code=1
    )
    assert "updates to statefulset spec for fields other than 'replicas'" in refused.stderr
    kubectl("delete", "sts", "web")
    gone = lambda: not kubectl.json("get", "pods", "-l", "app=web")["items"]  # noqa: E731
    wait_until(gone, 20, "the pods go with the set")


def test_a_partition_is_told_in_rollout_status(kubectl):
    rolling: dict[str, Any] = {"rollingUpdate": {"partition": 1}}
    kubectl("apply", "-f", "-", stdin=STATEFUL)
    rolled_out(kubectl, "sts/web")
    kubectl("patch", "sts", "web", "-p", json.dumps({"spec": {"updateStrategy": rolling}}))
    kubectl("set", "image", "sts/web", "web=web:2")
    told = rolled_out(kubectl, "sts/web")
    assert "partitioned roll out complete: 1 new pods have been updated" in told
    assert images(kubectl) == {"web:1", "web:2"}


def test_a_replication_controller_is_scaled_and_described(kubectl):
    kubectl("apply", "-f", "-", stdin=REPLICATION)

    def ready(count: int) -> bool:
        status = kubectl.json("get", "rc", "old")["status"]
        return status.get("readyReplicas") == status["replicas"] == count

    wait_until(lambda: ready(2), 20, "two pods are ready")
    kubectl("scale", "rc", "old", "--replicas=1")
    wait_until(lambda: ready(1), 20, "one pod is left")
    assert re.search(r"Replicas:\s+1 current / 1 desired", kubectl("describe", "rc", "old"))
    scale = json.loads(
        kubectl(
            "get",
            "--raw",
            f"/api/v1/namespaces/{kubectl.namespace}/replicationcontrollers/old/scale",
        )
    )
    assert scale["status"] == {"replicas": 1, "selector": "app=old"}
    kubectl("delete", "rc", "old")
