# SPDX-License-Identifier: Apache-2.0
"""Jobs and CronJobs with all the other controllers, the scheduler, and kubelets that run nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers import Config
from tests.fakes.control_plane import MERGE, ControlPlane

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


@pytest.fixture
def controller_config() -> Config:
    return Config(ca_pem="CA", node_grace_seconds=3600, orphan_seconds=0.1)


def job_key(name: str) -> ObjectKey:
    return ObjectKey("batch", "jobs", "default", name)


def template(**pod: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "v1"}]
    return {"spec": {"restartPolicy": "Never", "containers": containers, **pod}}


async def make(plane: ControlPlane, name: str = "work", **spec: Any) -> dict[str, Any]:
    body = {"metadata": {"name": name}, "spec": {"template": template(), **spec}}
    created: dict[str, Any] = await plane.registry.create(job_key(name), body)
    return created


def status(plane: ControlPlane, name: str = "work") -> dict[str, Any]:
    found: dict[str, Any] = plane.registry.get(job_key(name)).get("status", {})
    return found


def has(plane: ControlPlane, condition: str, name: str = "work") -> bool:
    conditions = status(plane, name).get("conditions", ())
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def running(plane: ControlPlane) -> list[dict[str, Any]]:
    return [
        pod
        for pod in plane.all("pods")
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


async def end(plane: ControlPlane, pod: dict[str, Any], code: int = 0) -> None:
    """A pod's container exits."""
    state = {"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}}
    patch = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": "c", "state": state}],
        "conditions": [{"type": "Ready", "status": "False"}],
    }
    key = ObjectKey("", "pods", "default", pod["metadata"]["name"])
    await plane.registry.patch(key, {"status": patch}, MERGE, subresource="status")


def reasons(plane: ControlPlane) -> set[str]:
    return {event["reason"] for event in plane.all("events")}


async def test_a_job_runs_until_enough_pods_have_succeeded(plane: ControlPlane):
    await plane.node("n1")
    await make(plane, completions=3, parallelism=2)
    for _ in range(3):
        await plane.until(lambda: running(plane))
        await end(plane, running(plane)[0])
    await plane.until(lambda: has(plane, "Complete"))
    found = status(plane)
    assert (found["succeeded"], found["uncountedTerminatedPods"]) == (3, {})
    pods = plane.all("pods")
    assert len(pods) == 3
    assert not any(pod["metadata"].get("finalizers") for pod in pods)
    await plane.until(lambda: {"SuccessfulCreate", "Completed"} <= reasons(plane))


async def test_an_exit_code_of_the_policy_fails_the_job_at_once(plane: ControlPlane):
    await plane.node("n1")
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    await make(plane, parallelism=2, completions=2, podFailurePolicy={"rules": [rule]})
    await plane.until(lambda: len(running(plane)) == 2)
    await end(plane, running(plane)[0], 42)
    await plane.until(lambda: has(plane, "Failed"))
    await plane.until(lambda: not running(plane))
    assert status(plane)["failed"] == 2
    await plane.until(lambda: "PodFailurePolicy" in reasons(plane))


async def test_an_indexed_job_runs_each_index_and_goes_on_without_a_failed_one(
    plane: ControlPlane,
):
    await plane.node("n1")
    await make(
        plane, completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=0
    )
    await plane.until(lambda: len(running(plane)) == 3)
    for pod in running(plane):
        assert pod["spec"]["hostname"] == f"work-{pod['metadata']['labels'][INDEX]}"
        await end(plane, pod, int(pod["metadata"]["annotations"][INDEX] == "1"))
    await plane.until(lambda: has(plane, "Failed"))
    assert (status(plane)["completedIndexes"], status(plane)["failedIndexes"]) == ("0,2", "1")


async def test_a_job_is_suspended_and_goes_on(plane: ControlPlane):
    await plane.node("n1")
    await make(plane)
    await plane.until(lambda: running(plane))
    await plane.registry.patch(job_key("work"), {"spec": {"suspend": True}}, MERGE)
    await plane.until(lambda: has(plane, "Suspended") and not plane.all("pods"))
    await plane.until(lambda: status(plane)["terminating"] == 0)
    assert "startTime" not in status(plane)
    resources = [{"name": "c", "image": "v1", "resources": {"requests": {"cpu": "10m"}}}]
    patch = {"spec": {"template": {"spec": {"containers": resources, "nodeSelector": {"a": "b"}}}}}
    await plane.registry.patch(job_key("work"), patch, "application/strategic-merge-patch+json")
    await plane.registry.patch(job_key("work"), {"spec": {"suspend": False}}, MERGE)
    await plane.until(lambda: plane.all("pods"))
    assert plane.all("pods")[0]["spec"]["nodeSelector"] == {"a": "b"}
    assert status(plane)["startTime"]


async def test_a_deleted_job_takes_its_pods_along_or_leaves_them(plane: ControlPlane):
    await plane.node("n1")
    for name, policy in (("work", "Background"), ("other", "Foreground"), ("third", "")):
        await make(plane, name)
        await plane.until(lambda: running(plane))
        await plane.registry.delete(job_key(name), {"propagationPolicy": policy} if policy else {})
        if policy:
            await plane.until(lambda: not plane.all("pods"))
    await plane.until(lambda: not plane.store.list("batch", "jobs").items)
    (left,) = plane.all("pods")
    assert not left["metadata"].get("ownerReferences")
    assert TRACKING not in left["metadata"].get("finalizers", ())


async def test_pods_of_a_node_that_is_gone_count_as_failed_and_are_replaced(plane: ControlPlane):
    await plane.node("n1")
    await make(plane, podReplacementPolicy="Failed")
    await plane.until(lambda: running(plane))
    plane.kubelets["n1"].away = True
    await plane.registry.delete(ObjectKey("", "nodes", "", "n1"))
    await plane.until(lambda: status(plane).get("failed") == 1)
    assert not running(plane)
    disrupted = [{"type": "DisruptionTarget"}]
    policy = {"rules": [{"action": "Ignore", "onPodConditions": disrupted}]}
    await plane.node("n2")
    await make(plane, "patient", podFailurePolicy=policy, backoffLimit=0)
    await plane.until(lambda: any(p["spec"].get("nodeName") == "n2" for p in running(plane)))
    plane.kubelets["n2"].away = True
    await plane.registry.delete(ObjectKey("", "nodes", "", "n2"))
    await plane.until(lambda: "failed" not in status(plane, "patient") and not running(plane))
    assert not has(plane, "Failed", "patient")


async def test_a_pod_deleted_before_it_had_a_node_has_failed(plane: ControlPlane):
    await make(plane, podReplacementPolicy="Failed", backoffLimit=0)
    await plane.until(lambda: plane.all("pods"))
    name = plane.all("pods")[0]["metadata"]["name"]
    await plane.registry.delete(ObjectKey("", "pods", "default", name))
    await plane.until(lambda: has(plane, "Failed"))
    await plane.until(lambda: not plane.all("pods"))


async def test_a_pod_that_its_node_let_go_without_a_word_has_failed(plane: ControlPlane):
    await plane.node("n1")
    await make(plane, podReplacementPolicy="Failed")
    await plane.until(lambda: running(plane))
    name = running(plane)[0]["metadata"]["name"]
    await plane.registry.delete(ObjectKey("", "pods", "default", name))
    await plane.until(lambda: status(plane).get("failed") == 1)
    await plane.until(lambda: [pod["metadata"]["name"] for pod in plane.all("pods")] != [name])


async def test_strays_are_adopted_and_relabelled_pods_let_go(plane: ControlPlane):
    await plane.node("n1")
    await make(plane)
    await plane.until(lambda: running(plane))
    name = running(plane)[0]["metadata"]["name"]
    key = ObjectKey("", "pods", "default", name)

    def pod() -> dict[str, Any]:
        found: dict[str, Any] = plane.registry.get(key)
        return found

    labels = pod()["metadata"]["labels"]
    await plane.registry.patch(key, {"metadata": {"ownerReferences": None}}, MERGE)
    await plane.until(lambda: pod()["metadata"].get("ownerReferences"))
    assert TRACKING in pod()["metadata"]["finalizers"]
    await plane.registry.patch(key, {"metadata": {"labels": dict.fromkeys(labels)}}, MERGE)
    await plane.until(lambda: not pod()["metadata"].get("ownerReferences"))
    assert TRACKING not in pod()["metadata"].get("finalizers", ())
    await plane.until(lambda: len(running(plane)) == 2)


async def test_a_job_of_another_controller_is_left_alone(plane: ControlPlane):
    await make(plane, managedBy="example.com/queue")
    await make(plane, "own", managedBy="kubernetes.io/job-controller")
    await plane.until(lambda: plane.all("pods"))
    await plane.settled()
    assert status(plane) == {}
    assert len(plane.all("pods")) == 1


async def test_a_finished_job_goes_after_its_time(plane: ControlPlane):
    await plane.node("n1")
    await make(plane, ttlSecondsAfterFinished=0)
    await plane.until(lambda: running(plane))
    await end(plane, running(plane)[0])
    await plane.until(lambda: not plane.store.list("batch", "jobs").items)
    await plane.until(lambda: not plane.all("pods"))


async def test_nothing_is_written_about_a_job_at_rest(plane: ControlPlane):
    await plane.node("n1")
    await make(plane)
    await plane.until(lambda: running(plane) and status(plane).get("ready") == 1)
    await plane.settled()
    before = plane.store.revision
    await asyncio.sleep(0.4)
    assert plane.store.revision == before


async def test_a_cron_job_makes_jobs_and_keeps_the_newest(plane: ControlPlane):
    await plane.node("n1")
    key = ObjectKey("batch", "cronjobs", "default", "tick")
    spec = {
        "schedule": "@every 1s",
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": template()}},
    }
    await plane.registry.create(key, {"metadata": {"name": "tick"}, "spec": spec})

    def jobs() -> list[dict[str, Any]]:
        rows = plane.store.list("batch", "jobs").items
        return [plane.registry.get(row.key) for row in rows]

    def cron_job() -> dict[str, Any]:
        found: dict[str, Any] = plane.registry.get(key).get("status", {})
        return found

    await plane.until(lambda: jobs() and cron_job().get("active"))
    (made,) = jobs()
    assert made["metadata"]["ownerReferences"][0]["name"] == "tick"
    assert cron_job()["active"][0]["name"] == made["metadata"]["name"]
    await plane.until(lambda: running(plane))
    await end(plane, running(plane)[0])
    await plane.until(lambda: cron_job().get("lastSuccessfulTime"))
    assert cron_job()["lastScheduleTime"]
    await plane.registry.patch(key, {"spec": {"suspend": True}}, MERGE)
    await plane.registry.delete(key)
    await plane.until(lambda: not jobs())
    await plane.until(lambda: not plane.all("pods"))
