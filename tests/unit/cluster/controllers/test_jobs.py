# SPDX-License-Identifier: Apache-2.0
"""What a Job makes of its pods: how many there are to be, how it ends, and what is counted."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from kedge.api.indexes import Indexes
from kedge.cluster.controllers.jobs.backoff import Backoff
from kedge.cluster.controllers.jobs.model import Job, index_of
from kedge.cluster.controllers.jobs.plan import COMPLETED, Plan, deletion_order, plan
from kedge.cluster.controllers.jobs.pods import generate_name, pod_for
from kedge.cluster.controllers.jobs.tracking import UNCOUNTED, Done, Turn, settle, track
from kedge.cluster.machinery import batch, records
from kedge.cluster.machinery.job_pods import UNKNOWN
from kedge.cluster.machinery.times import seconds_of, text_of

NOW = seconds_of("2026-05-01T12:00:00Z")
_numbers = itertools.count(1)
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


def stored(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
    return {
        "metadata": {"name": "work", "namespace": "default", "uid": "job"},
        "spec": {"parallelism": 2, "completions": 3, "template": template, **spec},
        "status": status or {},
    }


def job(status: dict[str, Any] | None = None, **spec: Any) -> Job:
    return Job.of(stored(status, **spec))


def pod(
    phase: str = "Running",
    *,
    index: int | None = None,
    failures: int = 0,
    ignored: int = 0,
    tracked: bool = True,
    deleted: bool = False,
    ended: float = NOW - 1000,
    code: int | None = None,
    conditions: dict[str, str] | None = None,
    ready: bool = False,
    restarts: int = 0,
    node: str = "n",
) -> records.Pod:
    number = next(_numbers)
    notes = {FAILURES: str(failures), IGNORED: str(ignored)}
    if index is not None:
        notes[INDEX] = str(index)
    owner = {"uid": "job", "kind": "Job", "name": "work", "controller": True}
    metadata: dict[str, Any] = {
        "name": f"p{number}",
        "namespace": "default",
        "uid": f"u{number}",
        "annotations": notes,
        "ownerReferences": [owner],
        "finalizers": ["batch.kubernetes.io/job-tracking"] if tracked else [],
        "creationTimestamp": text_of(NOW - 2000),
    }
    if deleted:
        metadata |= {"deletionTimestamp": text_of(ended), "deletionGracePeriodSeconds": 0}
    state: dict[str, Any] = {}
    if phase in ("Succeeded", "Failed"):
        exit_code = code if code is not None else int(phase == "Failed")
        state = {"terminated": {"exitCode": exit_code, "finishedAt": text_of(ended)}}
    status = {
        "phase": phase,
        "containerStatuses": [{"name": "c", "state": state, "restartCount": restarts}],
        "conditions": [
            {"type": "Ready", "status": str(ready)},
            *({"type": kind, "status": value} for kind, value in (conditions or {}).items()),
        ],
    }
    body = {"metadata": metadata, "spec": {"nodeName": node, "containers": []}, "status": status}
    return records.pod_of(json.dumps(body).encode(), number)


def decide(one: Job, pods: list[records.Pod], backoff: Backoff | None = None) -> Plan:
    return plan(one, pods, backoff or Backoff(), NOW)


def carried_out(one: Job, pods: list[records.Pod]) -> tuple[Plan, Turn]:
    made = decide(one, pods)
    return made, track(one, pods, made, Done(made.stop, made.drop, len(made.create)), NOW)


def condition(status: dict[str, Any], name: str) -> tuple[str, str, str] | None:
    for each in status.get("conditions") or ():
        if each["type"] == name:
            return each["status"], each["reason"], each["message"]
    return None


# --- how many pods


@pytest.mark.parametrize(
    ("spec", "pods", "created"),
    [
        ({}, [], 2),
        ({}, ["Running"], 1),
        ({}, ["Succeeded", "Succeeded"], 1),
        ({"parallelism": 0}, [], 0),
        ({"completions": None, "parallelism": 3}, [], 3),
        ({"completions": None, "parallelism": 3}, ["Succeeded", "Running"], 0),
        ({"parallelism": 10_000, "completions": 10_000}, [], 500),
        ({"suspend": True}, [], 0),
    ],
)
def test_as_many_pods_as_are_missing_are_created(
    spec: dict[str, Any], pods: list[str], created: int
):
    assert len(decide(job(**spec), [pod(phase) for phase in pods]).create) == created


def test_too_many_pods_are_deleted_the_one_that_came_least_far_first():
    ready, pending, unbound = pod(ready=True), pod("Pending"), pod("Pending", node="")
    made = decide(job(parallelism=1), [ready, pending, unbound])
    assert [each.name for each in made.drop] == [unbound.name, pending.name]
    assert deletion_order([ready, pending, unbound])[-1] is ready
    assert made.create == ()


def test_a_suspended_job_deletes_its_pods_and_they_do_not_count():
    pods = [pod(), pod("Pending")]
    made, turn = carried_out(job({"startTime": text_of(NOW - 9)}, suspend=True), pods)
    assert sorted(each.name for each in made.drop) == sorted(each.name for each in pods)
    assert turn.strip == ()
    assert turn.status["uncountedTerminatedPods"] == {}
    assert condition(turn.status, "Suspended") == ("True", "JobSuspended", "Job suspended")
    assert "startTime" not in turn.status
    assert [said[1] for said in turn.said] == ["Suspended"]


def test_a_resumed_job_starts_anew():
    suspended = {"type": "Suspended", "status": "True", "reason": "JobSuspended"}
    _, turn = carried_out(job({"conditions": [suspended]}), [])
    assert condition(turn.status, "Suspended") == ("False", "JobResumed", "Job resumed")
    assert turn.status["startTime"] == text_of(NOW)
    assert turn.status["active"] == 2


def test_a_pod_that_goes_away_is_replaced_at_once_or_once_it_has_failed():
    going = pod(deleted=True)
    assert len(decide(job(parallelism=1), [going]).create) == 1
    assert decide(job(parallelism=1, podReplacementPolicy="Failed"), [going]).create == ()


def test_a_deleted_job_creates_nothing_and_lets_its_pods_go():
    one = stored()
    one["metadata"]["deletionTimestamp"] = text_of(NOW)
    made, turn = carried_out(Job.of(one), [running := pod()])
    assert (made.create, turn.strip) == ((), (running,))


# --- indexes


def test_the_first_free_indexes_get_pods_and_repeated_or_odd_ones_lose_theirs():
    one = job(completions=5, completionMode="Indexed", parallelism=4)
    pods = [pod("Succeeded", index=0), pod(index=2)]
    assert decide(one, pods).create == (1, 3, 4)
    again, beyond, none = pod("Pending", index=2), pod(index=5), pod()
    made = decide(one, [*pods, again, beyond, none])
    assert {each.name for each in made.drop} == {again.name, beyond.name, none.name}


def test_indexes_are_done_once_whatever_pods_say():
    one = job({"completedIndexes": "0", "succeeded": 1}, completions=3, completionMode="Indexed")
    made, turn = carried_out(one, [pod("Succeeded", index=0), pod("Succeeded", index=2)])
    assert turn.status["completedIndexes"] == "0,2"
    assert turn.status["succeeded"] == 2
    assert made.create == (1,)
    assert len(turn.strip) == 2


def test_an_index_fails_for_good_once_it_is_over_its_limit_and_the_others_go_on():
    one = job(
        completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1,
        backoffLimit=2**31 - 1,
    )  # fmt: skip
    twice, once = pod("Failed", index=0, failures=1), pod("Failed", index=1)
    made, turn = carried_out(one, [twice, once])
    assert made.failed == Indexes.of([0])
    assert made.create == (1, 2)
    assert made.last == {1: once}
    assert turn.strip == (twice,), "the last failure of an index waits for its successor"
    assert turn.status["failedIndexes"] == "0"


def test_a_successor_carries_how_often_its_index_failed():
    one = job(
        completions=2, completionMode="Indexed", backoffLimitPerIndex=3,
        podFailurePolicy={"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]},
    )  # fmt: skip
    record = batch.job_of(json.dumps(stored()).encode(), 1)
    template = stored()["spec"]["template"]

    def notes(last: records.Pod | None) -> dict[str, str]:
        made: dict[str, str] = pod_for(one, record, template, 1, last)["metadata"]["annotations"]
        return made

    assert notes(None) == {INDEX: "1", FAILURES: "0"}
    assert notes(pod("Failed", index=1, failures=1)) == {INDEX: "1", FAILURES: "2"}
    evicted = pod("Failed", index=1, failures=1, conditions={"DisruptionTarget": "True"})
    assert notes(evicted) == {INDEX: "1", FAILURES: "1", IGNORED: "1"}


def test_a_pod_knows_its_index_in_every_way():
    one = job(completionMode="Indexed")
    template = {
        "metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {
            "initContainers": [{"name": "i", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "z"}]}],
            "containers": [{"name": "c"}],
        },
    }  # fmt: skip
    record = batch.job_of(json.dumps(stored()).encode(), 1)
    made = pod_for(one, record, template, 7, None)
    metadata, spec = made["metadata"], made["spec"]
    assert metadata["labels"] == {"a": "b", INDEX: "7"}
    assert metadata["annotations"] == {INDEX: "7"}
    assert metadata["generateName"] == "work-7-"
    assert metadata["finalizers"] == ["x/y", "batch.kubernetes.io/job-tracking"]
    assert spec["hostname"] == "work-7"
    assert spec["initContainers"][0]["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": "z"}]
    source = spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"]
    assert source["fieldPath"] == f"metadata.labels['{INDEX}']"
    assert "env" not in template["spec"]["containers"][0]
    assert generate_name("n" * 60, 12) == "n" * 54 + "-12-"


# --- how it ends


def test_enough_successes_are_said_before_and_after_they_are_counted():
    one = job({"succeeded": 2})
    made, turn = carried_out(one, [last := pod("Succeeded")])
    assert made.end == COMPLETED
    assert condition(turn.status, "SuccessCriteriaMet") is not None
    assert condition(turn.status, "Complete") is None
    assert turn.status["uncountedTerminatedPods"] == {"succeeded": [last.uid]}
    status, said = settle(one, turn, {last.uid}, NOW)
    assert condition(status, "Complete") == (
        "True",
        "CompletionsReached",
        "Reached expected number of succeeded pods",
    )
    assert status["succeeded"] == 3
    assert status["completionTime"] == text_of(NOW)
    assert status["uncountedTerminatedPods"] == {}
    assert [each[1] for each in said] == ["Completed"]


def test_a_job_has_not_finished_while_a_pod_goes_away_or_a_finalizer_is_left():
    one = job({"succeeded": 2})
    going, last = pod(deleted=True), pod("Succeeded")
    _, turn = carried_out(one, [going, last])
    status, _ = settle(one, turn, {going.uid, last.uid}, NOW)
    assert condition(status, "Complete") is None
    assert status["terminating"] == 1
    _, turn = carried_out(one, [last])
    status, said = settle(one, turn, set(), NOW)
    assert (condition(status, "Complete"), said) == (None, ())


def test_one_success_ends_a_work_queue_once_the_others_have_ended():
    one = job(completions=None)
    assert decide(one, [pod("Succeeded"), pod()]).end is None
    assert decide(one, [pod("Succeeded"), pod("Failed")]).end == COMPLETED


def reason(one: Job, pods: list[records.Pod]) -> str:
    end = decide(one, pods).end
    return end.reason if end is not None else ""


def test_failures_over_the_limit_fail_the_job_and_stop_its_pods():
    one = job({"failed": 1}, backoffLimit=1)
    running = pod()
    assert reason(one, [running]) == ""
    made, turn = carried_out(one, [failed := pod("Failed"), running])
    assert made.stop == (running,)
    assert condition(turn.status, "FailureTarget") == (
        "True",
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    )
    assert turn.status["uncountedTerminatedPods"] == {"failed": [failed.uid, running.uid]}
    assert (turn.status["terminating"], turn.status.get("active")) == (1, None)


def test_restarts_in_place_count_towards_the_limit():
    template = {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}}
    assert reason(job(template=template, backoffLimit=2), [pod(restarts=1)]) == ""
    assert reason(job(template=template, backoffLimit=2), [pod(restarts=2)]) != ""
    assert reason(job(template=template, backoffLimit=0), [pod(restarts=0)]) == ""
    assert reason(job(template=template, backoffLimit=0), [pod(restarts=1)]) != ""
    assert reason(job(backoffLimit=2), [pod(restarts=9)]) == ""


def test_a_job_that_is_active_for_too_long_fails_and_asks_to_be_looked_at_until_then():
    status = {"startTime": text_of(NOW - 20)}
    assert decide(job(status, activeDeadlineSeconds=30), [pod()]).again == 10
    assert reason(job(status, activeDeadlineSeconds=20), [pod()]) == "DeadlineExceeded"
    assert reason(job(status, activeDeadlineSeconds=20, suspend=True), []) == ""


def test_an_end_that_was_said_stays():
    said = {"type": "FailureTarget", "status": "True", "reason": "R", "message": "m"}
    end = decide(job({"conditions": [said], "succeeded": 3}), []).end
    assert end is not None
    assert (end.succeeded, end.reason, end.message) == (False, "R", "m")


def test_an_end_is_not_said_while_a_pod_could_not_be_stopped():
    one = job({"failed": 9})
    pods = [pod(), pod()]
    made = decide(one, pods)
    turn = track(one, pods, made, Done(stopped=made.stop[:1]), NOW)
    assert turn.end is None
    assert condition(turn.status, "FailureTarget") is None
    assert turn.strip == ()


def test_too_many_failed_indexes_and_all_indexes_ended_fail_the_job():
    spec = {"completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 99}
    pods = [pod("Failed", index=0), pod("Failed", index=1)]
    assert reason(job(**spec, maxFailedIndexes=1), pods) == "MaxFailedIndexesExceeded"
    assert reason(job(**spec, maxFailedIndexes=2), pods) == ""
    assert reason(job(**spec), [*pods, pod("Succeeded", index=2)]) == "FailedIndexes"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"succeededIndexes": "0,2"}, "Matched rules at index 0"),
        ({"succeededIndexes": "0-2", "succeededCount": 2}, "Matched rules at index 0"),
        ({"succeededCount": 2}, "Matched rules at index 0"),
        ({"succeededCount": 3}, ""),
        ({"succeededIndexes": "0-1"}, ""),
    ],
)
def test_a_success_policy_decides_which_indexes_are_enough(rule: dict[str, Any], message: str):
    one = job(completions=4, completionMode="Indexed", successPolicy={"rules": [rule]})
    pods = [pod("Succeeded", index=0), pod("Succeeded", index=2), pod(index=1)]
    end = decide(one, pods).end
    assert (end.message if end is not None else "") == message
    if end is not None:
        _, turn = carried_out(one, pods)
        assert turn.status["uncountedTerminatedPods"] == {}, "what is stopped is no failure"


# --- what failures mean

CODES = {"onExitCodes": {"operator": "In", "values": [3, 42]}}
DISRUPTED = {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def failing(action: str, rule: dict[str, Any], **spec: Any) -> Job:
    return job(podFailurePolicy={"rules": [{"action": action, **rule}]}, **spec)


def test_a_rule_may_fail_the_whole_job():
    failed = pod("Failed", code=42)
    end = decide(failing("FailJob", CODES), [failed]).end
    assert end is not None
    assert (end.reason, end.message) == (
        "PodFailurePolicy",
        f"Container c for pod default/{failed.name} failed with exit code 42 matching FailJob rule at index 0",
    )
    disrupted = pod("Failed", conditions={"DisruptionTarget": "True"})
    end = decide(failing("FailJob", DISRUPTED), [disrupted]).end
    assert end is not None
    assert end.message == (
        f"Pod default/{disrupted.name} has condition DisruptionTarget matching FailJob rule at index 0"
    )
    assert decide(failing("FailJob", CODES), [pod("Failed", code=1)]).end is None


def test_a_rule_may_have_failures_not_counted():
    one = failing("Ignore", CODES, backoffLimit=0)
    ignored = pod("Failed", code=3)
    made, turn = carried_out(one, [ignored])
    assert made.end is None
    assert turn.strip == (ignored,)
    assert turn.status["uncountedTerminatedPods"] == {}
    assert reason(one, [pod("Failed", code=1)]) == "BackoffLimitExceeded"


@pytest.mark.parametrize(
    ("codes", "code", "matches"),
    [
        ({"operator": "NotIn", "values": [3]}, 4, True),
        ({"operator": "NotIn", "values": [3]}, 3, False),
        ({"operator": "In", "values": [3], "containerName": "other"}, 3, False),
        ({"operator": "NotIn", "values": [3]}, 0, False),
    ],
)
def test_exit_codes_are_of_containers_that_ended_with_an_error(
    codes: dict[str, Any], code: int, *, matches: bool
):
    one = failing("Ignore", {"onExitCodes": codes}, backoffLimit=0)
    assert (reason(one, [pod("Failed", code=code)]) == "") is matches


def test_a_rule_may_fail_an_index_at_once():
    one = failing(
        "FailIndex", CODES, completionMode="Indexed", backoffLimitPerIndex=5, backoffLimit=99
    )
    assert decide(one, [pod("Failed", index=0, code=42)]).failed == Indexes.of([0])
    assert decide(one, [pod("Failed", index=0, code=1)]).failed == Indexes()


# --- back-off


def test_each_failure_doubles_the_wait_up_to_ten_minutes_and_a_success_ends_it():
    last = pod("Failed", ended=NOW)
    waits = [Backoff(failures).after([], [last]).remaining(NOW) for failures in (0, 1, 2, 5, 9)]
    assert waits == [10, 20, 40, 320, 600]
    assert Backoff(9, NOW).after([pod("Succeeded", ended=NOW)], []).remaining(NOW) == 0
    later = pod("Failed", ended=NOW + 5)
    assert Backoff(9, NOW).after([pod("Succeeded", ended=NOW)], [last, later]) == Backoff(
        1, NOW + 5
    )


def test_pods_are_created_once_the_wait_is_over_and_those_that_run_still_count():
    one = job(parallelism=2)
    pods = [pod("Failed", ended=NOW - 4), pod()]
    made, turn = carried_out(one, pods)
    assert (made.create, made.again) == ((), 6)
    assert turn.status["active"] == 1
    assert decide(one, [pod("Failed", ended=NOW - 11), pod()]).create == (UNKNOWN,)


def test_indexes_wait_each_for_itself():
    one = job(
        completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=9,
        backoffLimit=99,
    )  # fmt: skip
    pods = [
        pod("Failed", index=0, ended=NOW - 4),
        pod("Failed", index=1, failures=2, ended=NOW - 41),
    ]
    made = decide(one, pods)
    assert (made.create, made.again) == ((1, 2), 6)


# --- counting


def test_what_is_uncounted_is_counted_when_its_finalizer_is_gone_and_not_before():
    left = pod("Failed", tracked=False)
    here = pod("Failed")
    uids = [left.uid, here.uid, "gone"]
    one = job({"failed": 1, "uncountedTerminatedPods": {"failed": uids}}, backoffLimit=9)
    made, turn = carried_out(one, [left, here])
    assert made.backoff == Backoff()
    assert turn.status["failed"] == 3
    assert turn.status["uncountedTerminatedPods"] == {"failed": [here.uid]}
    assert turn.strip == (here,)
    status, _ = settle(one, turn, {here.uid}, NOW)
    assert status["failed"] == 4


def test_a_turn_counts_a_bounded_number_of_pods():
    one = job(parallelism=1000, completions=1000)
    pods = [pod("Succeeded") for _ in range(UNCOUNTED + 100)]
    _, turn = carried_out(one, pods)
    assert len(turn.status["uncountedTerminatedPods"]["succeeded"]) == UNCOUNTED
    assert len(turn.strip) == UNCOUNTED


def test_nothing_changes_when_nothing_has_happened():
    one = job()
    pods = [pod(ready=True), pod()]
    _, turn = carried_out(one, pods)
    again = job(turn.status)
    _, second = carried_out(again, pods)
    assert second.status == turn.status
    assert settle(again, second, set(), NOW)[0] == turn.status
    assert turn.status["ready"] == 1


def test_nonsense_in_a_pods_annotations_is_none():
    assert index_of(pod(index=-3)) == UNKNOWN
    odd = pod(index=1, failures=-1)
    assert odd.job is not None
    assert odd.job.failures == 0
