# SPDX-License-Identifier: Apache-2.0
"""Jobs with kubectl, Debian's 1.20, against a real control plane with a node that runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.node import FakeNode
from tests.rig.api import Api
from tests.rig.control import cluster
from tests.rig.kubectl import Kubectl
from tests.rig.processes import wait_until

pytestmark = pytest.mark.timeout(120)

PODS = "/api/v1/namespaces/default/pods"
TICK = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "@every 1s"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: c, image: "i:1"}]
"""


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("jobs")
    with cluster(directory) as kubeconfig, FakeNode(kubeconfig, "n1"):
        yield kubeconfig


@pytest.fixture
def kubectl(control: Path, tmp_path: Path) -> Kubectl:
    return Kubectl("/usr/bin/kubectl", control, "default", tmp_path)


def end(control: Path, job: str, *, code: int = 0) -> None:
    """The pod of a Job runs, and its container exits."""
    api = Api(control)
    try:
        selected = f"{PODS}?labelSelector=job-name%3D{job}"

        def running() -> list[str]:
            return [
                pod["metadata"]["name"]
                for pod in api.get(selected)["items"]
                if pod["status"].get("phase") == "Running"
            ]

        wait_until(running, 20, "the pod runs")
        state = {"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}}
        status = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "c", "state": state, "restartCount": 0}],
        }
        api.merge(f"{PODS}/{running()[0]}/status", {"status": status})
    finally:
        api.close()


def test_a_job_made_by_kubectl_is_waited_for_and_described(control: Path, kubectl: Kubectl):
    kubectl("create", "job", "one", "--image=i:1")
    end(control, "one")
    kubectl("wait", "--for=condition=complete", "job/one", "--timeout=20s")
    text = kubectl("describe", "job", "one")
    assert re.search(r"1 Succeeded", text)
    assert "Completed" in text
    assert "batch.kubernetes.io/controller-uid" in text
    assert kubectl("get", "job", "one", "--no-headers").split()[:3] == ["one", "Complete", "1/1"]
    refused = kubectl.run("patch", "job", "one", "-p", '{"spec":{"completions":2}}', code=1).stderr
    assert "field is immutable" in refused


def test_a_job_that_fails_says_why(control: Path, kubectl: Kubectl):
    kubectl("create", "job", "bad", "--image=i:1")
    kubectl("patch", "job", "bad", "-p", '{"spec":{"backoffLimit":0}}')
    end(control, "bad", code=1)
    kubectl("wait", "--for=condition=failed", "job/bad", "--timeout=20s")
    assert "BackoffLimitExceeded" in kubectl("describe", "job", "bad")
    kubectl("delete", "job", "bad", "--timeout=20s")
    wait_until(
        lambda: not kubectl.json("get", "pods", "-l", "job-name=bad")["items"], 20, "its pods go"
    )


def test_a_cron_job_makes_a_job_and_shows_it(control: Path, kubectl: Kubectl):
    kubectl("apply", "-f", "-", stdin=TICK)
    wait_until(
        lambda: kubectl.json("get", "cronjob", "tick").get("status", {}).get("active"),
        20,
        "a Job is made",
    )
    (made,) = kubectl.json("get", "cronjob", "tick")["status"]["active"]
    end(control, made["name"])
    wait_until(
        lambda: kubectl.json("get", "cronjob", "tick")["status"].get("lastSuccessfulTime"),
        20,
        "it has succeeded",
    )
    wrong = TICK.replace("@every 1s", "0 0 * * 7").replace("tick", "wrong")
    assert (
        "end of range (7) above maximum (6): 7"
        in kubectl.run("apply", "-f", "-", stdin=wrong, code=1).stderr
    )
    kubectl("delete", "cronjob", "tick", "--timeout=20s")
