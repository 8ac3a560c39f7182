# SPDX-License-Identifier: Apache-2.0
"""Jobs in real containers: one that completes, one that a policy fails, one that a CronJob's user starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.rig.kubectl import Kubectl
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    with System.temporary("jobs") as system:
        system.wait_node_ready()
        yield Kubectl.of(system)


def job(name: str, script: str, **spec: Any) -> str:
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
    }
    pod = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod}, **spec},
    }
    return yaml.safe_dump(body)


def conditions(kubectl: Kubectl, name: str) -> dict[str, str]:
    status = kubectl.json("get", "job", name)["status"]
    return {
        each["type"]: each.get("reason", "")
        for each in status.get("conditions", ())
        if each["status"] == "True"
    }


def pods(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.json("get", "pods", "-l", f"job-name={name}")["items"]
    return found


def test_an_indexed_job_completes_and_its_pods_know_their_index(kubectl: Kubectl):
    script = 'echo "$JOB_COMPLETION_INDEX on $(hostname)"'
    spec = {"completions": 3, "parallelism": 2, "completionMode": "Indexed"}
    kubectl("create", "-f", "-", stdin=job("count", script, **spec))
    kubectl("wait", "--for=condition=complete", "job/count", "--timeout=50s")
    status = kubectl.json("get", "job", "count")["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    names = sorted(pod["metadata"]["name"] for pod in pods(kubectl, "count"))
    said = [kubectl("logs", name).strip() for name in names]
    assert said == ["0 on count-0", "1 on count-1", "2 on count-2"]
    assert not any(pod["metadata"].get("finalizers") for pod in pods(kubectl, "count"))
    kubectl("delete", "job", "count", "--timeout=30s")
    wait_until(lambda: not pods(kubectl, "count"), 20, "the pods go with their Job")


def test_an_exit_code_of_the_policy_fails_the_job_and_stops_the_other_pods(kubectl: Kubectl):
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    spec = {
        "completions": 2,
        "parallelism": 2,
        "completionMode": "Indexed",
        "podFailurePolicy": {"rules": [rule]},
    }
    script = '[ "$JOB_COMPLETION_INDEX" = 0 ] && sleep 600; sleep 1; exit 42'
    kubectl("create", "-f", "-", stdin=job("fails", script, **spec))
    kubectl("wait", "--for=condition=failed", "job/fails", "--timeout=60s")
    assert conditions(kubectl, "fails")["Failed"] == "PodFailurePolicy"
    assert kubectl.json("get", "job", "fails")["status"]["failed"] == 2
    wait_until(
        lambda: all(pod["status"]["phase"] == "Failed" for pod in pods(kubectl, "fails")),
        30,
        "nothing of it runs",
    )


def test_a_job_is_made_by_hand_from_a_cron_job(kubectl: Kubectl):
    create = ("create", "cronjob", "tick", f"--image={IMAGE}", "--schedule=0 0 1 1 *")
    kubectl(*create, "--", "true")
    patch = '{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"tick","imagePullPolicy":"IfNotPresent"}]}}}}}}'
    kubectl("patch", "cronjob", "tick", "-p", patch)
    kubectl("create", "job", "now", "--from=cronjob/tick")
    kubectl("wait", "--for=condition=complete", "job/now", "--timeout=50s")
    made = kubectl.json("get", "job", "now")
    assert made["metadata"]["ownerReferences"][0]["name"] == "tick"
    assert made["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"] == "manual"
    wait_until(
        lambda: kubectl.json("get", "cronjob", "tick")["status"].get("lastSuccessfulTime"),
        20,
        "the CronJob knows of it",
    )
    kubectl("delete", "cronjob", "tick", "--timeout=30s")
    wait_until(lambda: not pods(kubectl, "now"), 30, "its Job and that one's pods go with it")


def test_a_pod_that_is_deleted_has_failed_once_it_has_ended_and_is_replaced_then(kubectl: Kubectl):
    script = "trap 'sleep 1; exit 1' TERM; sleep 600 & wait"
    spec = {"podReplacementPolicy": "Failed", "backoffLimit": 3}
    kubectl("create", "-f", "-", stdin=job("patient", script, **spec))
    wait_until(
        lambda: [pod["status"]["phase"] for pod in pods(kubectl, "patient")] == ["Running"],
        30,
        "the pod runs",
    )
    (first,) = pods(kubectl, "patient")
    kubectl("delete", "pod", first["metadata"]["name"], "--wait=false")
    wait_until(
        lambda: kubectl.json("get", "job", "patient")["status"].get("failed") == 1,
        30,
        "it is counted",
    )
    kubectl("delete", "job", "patient", "--timeout=30s")
    wait_until(lambda: not pods(kubectl, "patient"), 30, "nothing of it is left")


def test_a_pod_that_never_started_has_failed_when_it_is_deleted(kubectl: Kubectl):
    spec = {"podReplacementPolicy": "Failed", "backoffLimit": 0}
    body = job("stuck", "true", **spec).replace(IMAGE, "docker.io/kedge/none:1")
    kubectl("create", "-f", "-", stdin=body.replace("IfNotPresent", "Never"))
    wait_until(
        lambda: any(pod["spec"].get("nodeName") for pod in pods(kubectl, "stuck")),
        30,
        "the pod has a node",
    )
    (one,) = pods(kubectl, "stuck")
    kubectl("delete", "pod", one["metadata"]["name"], "--wait=false")
    kubectl("wait", "--for=condition=failed", "job/stuck", "--timeout=40s")
    assert conditions(kubectl, "stuck")["Failed"] == "BackoffLimitExceeded"
