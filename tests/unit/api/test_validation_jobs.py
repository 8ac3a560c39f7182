# SPDX-License-Identifier: Apache-2.0
"""Which Jobs and CronJobs are refused, and in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kedge.api import defaults, validation
from kedge.api.kinds import find
from kedge.cluster.apiserver import strategies
from kedge.errors import Invalid

JOBS, CRON_JOBS = find("batch", "jobs"), find("batch", "cronjobs")
INDEXED = {"completionMode": "Indexed", "completions": 3}


def template(policy: str = "Never", **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": policy, **spec}}


def job(name: str = "work", **spec: Any) -> dict[str, Any]:
    obj = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template(), **spec},
    }
    strategies.prepare_create(JOBS, obj)
    defaults.apply("batch", "jobs", obj)
    strategies.complete_create(JOBS, obj)
    return obj


def cron_job(name: str = "tick", **spec: Any) -> dict[str, Any]:
    template_of_jobs = {"spec": {"template": template()}}
    obj = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedule": "* * * * *", "jobTemplate": template_of_jobs, **spec},
    }
    defaults.apply("batch", "cronjobs", obj)
    return obj


def complaints(call: Any, *arguments: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        call(*arguments)
    assert caught.value.details is not None
    causes: Any = caught.value.details["causes"]
    return [f"{each['field']}: {each['message']}" for each in causes]


def refused(spec: dict[str, Any]) -> list[str]:
    return complaints(validation.validate, JOBS, job(**spec))


def test_a_job_selects_its_pods_by_its_uid_and_shows_the_labels_itself():
    made = job()
    validation.validate(JOBS, made)
    uid = made["metadata"]["uid"]
    labels = {
        "job-name": "work",
        "batch.kubernetes.io/job-name": "work",
        "controller-uid": uid,
        "batch.kubernetes.io/controller-uid": uid,
    }
    spec = made["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"] == labels
    assert made["metadata"]["labels"] == labels


def test_a_job_may_select_by_itself():
    pods = {**template(), "metadata": {"labels": {"a": "b"}}}
    selector = {"matchLabels": {"a": "b"}}
    made = job(manualSelector=True, selector=selector, template=pods)
    validation.validate(JOBS, made)
    assert made["spec"]["selector"] == selector
    assert made["spec"]["template"]["metadata"]["labels"] == {"a": "b"}
    assert refused({"manualSelector": True}) == ["spec.selector: Required value"]


def test_another_generated_name_is_in_the_labels_too():
    made = job("work-aaaaa")
    strategies.rename(JOBS, made, "work-bbbbb")
    validation.validate(JOBS, made)
    assert made["metadata"]["labels"]["job-name"] == "work-bbbbb"


def test_defaults_depend_on_what_is_said():
    spec = job()["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"]) == ("NonIndexed", False)
    assert spec["podReplacementPolicy"] == "TerminatingOrFailed"
    assert "completions" not in job(parallelism=2)["spec"]
    assert job(**INDEXED, backoffLimitPerIndex=1)["spec"]["backoffLimit"] == 2**31 - 1
    pattern = {"type": "DisruptionTarget"}
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [pattern]}]}
    spec = job(podFailurePolicy=policy)["spec"]
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"] == "True"


POLICY = "spec.podFailurePolicy.rules[0]"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (
            {"parallelism": -1},
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"ttlSecondsAfterFinished": -1},
            "spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"template": template("Always")},
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            {"completionMode": "Odd"},
            'spec.completionMode: Unsupported value: "Odd": supported values: "NonIndexed", "Indexed"',
        ),
        (
            {"completionMode": "Indexed", "parallelism": 1},
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            {**INDEXED, "parallelism": 100_001},
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
        ),
        (
            {"backoffLimitPerIndex": 1},
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            {**INDEXED, "maxFailedIndexes": 1},
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            {**INDEXED, "backoffLimitPerIndex": 1, "maxFailedIndexes": 4},
            "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
        ),
        (
            {**INDEXED, "completions": 100_001, "backoffLimitPerIndex": 1},
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ),
        (
            {"managedBy": "me"},
            'spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")',
        ),
        (
            {"managedBy": "example.com/" + "x" * 60},
            "spec.managedBy: Too long: may not be more than 63 bytes",
        ),
        (
            {"podReplacementPolicy": "Odd"},
            'spec.podReplacementPolicy: Unsupported value: "Odd": supported values: "Failed", "TerminatingOrFailed"',
        ),
        (
            {"successPolicy": {"rules": [{"succeededCount": 1}]}},
            'spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode',
        ),
        (
            {**INDEXED, "successPolicy": {"rules": [{}]}},
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ),
        (
            {**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "1,9"}]}},
            'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "1,9": error parsing succeededIndexes: too large index: "9"',
        ),
        (
            {
                **INDEXED,
                "successPolicy": {"rules": [{"succeededIndexes": "1", "succeededCount": 2}]},
            },
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 2: must be less than or equal to 1 (the number of indexes in the specified succeededIndexes field)",
        ),
        (
            {
                "podFailurePolicy": {
                    "rules": [{"action": "Odd", "onPodConditions": [{"type": "A"}]}]
                }
            },
            f'{POLICY}.action: Unsupported value: "Odd": supported values: "Count", "FailIndex", "FailJob", "Ignore"',
        ),
        (
            {"podFailurePolicy": {"rules": [{"action": "Count"}]}},
            f"{POLICY}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (
            {
                "podFailurePolicy": {
                    "rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}]
                }
            },
            f"{POLICY}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            {
                "podFailurePolicy": {
                    "rules": [
                        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}
                    ]
                }
            },
            f'{POLICY}.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set',
        ),
        (
            {"podFailurePolicy": {"rules": [{}] * 21}},
            "spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items",
        ),
        (
            {"podFailurePolicy": {"rules": []}, "template": template("OnFailure")},
            'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified',
        ),
    ],
)
def test_a_job_against_the_rules_is_refused_in_upstreams_words(
    spec: dict[str, Any], complaint: str
):
    assert refused(spec) == [complaint]


def test_a_name_that_no_pod_could_have_as_its_host_name_is_refused():
    name = "n" * 62
    [complaint] = complaints(validation.validate, JOBS, job(name, **INDEXED))
    assert complaint == (
        f'metadata.name: Invalid value: "{name}": will not able to create pod with invalid DNS label: {name}-2'
    )
    validation.validate(JOBS, job(name))
    warning = strategies.warnings(JOBS, job("a.b"))
    assert warning[0].startswith("metadata.name: this is used in Pod names and hostnames")
    assert strategies.warnings(CRON_JOBS, cron_job("a.b")) == warning
    assert strategies.warnings(CRON_JOBS, cron_job("a-b")) == []


# --- changes


def changed(old: dict[str, Any], **spec: Any) -> dict[str, Any]:
    new = copy.deepcopy(old)
    new["spec"].update(spec)
    return new


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("completions", 7),
        ("completionMode", "Indexed"),
        ("selector", {"matchLabels": {"job-name": "work"}}),
        ("template", template(hostNetwork=True)),
    ],
)
def test_what_a_job_is_never_changes(field: str, value: Any):
    old = job(completions=2)
    if field == "template":
        value = {**value, "metadata": old["spec"]["template"]["metadata"]}
        wanted = changed(old, template=value)
        defaults.apply("batch", "jobs", wanted)
    else:
        wanted = changed(old, **{field: value})
    found = complaints(validation.validate_update, JOBS, wanted, old)
    assert any(each.startswith(f"spec.{field}") and "immutable" in each for each in found)


def test_how_much_of_a_job_runs_may_change():
    old = job(completions=2)
    for field, value in (("parallelism", 5), ("suspend", True), ("activeDeadlineSeconds", 9)):
        validation.validate_update(JOBS, changed(old, **{field: value}), old)


def test_an_indexed_job_is_scaled_with_its_parallelism():
    old = job(**INDEXED, parallelism=3)
    validation.validate_update(JOBS, changed(old, completions=5, parallelism=5), old)
    [complaint] = complaints(validation.validate_update, JOBS, changed(old, completions=5), old)
    assert complaint.endswith("can only be modified in tandem with spec.parallelism")


def directed(old: dict[str, Any]) -> dict[str, Any]:
    """The same with other labels, another place and other resources."""
    new = copy.deepcopy(old)
    pods = new["spec"]["template"]
    pods["metadata"]["labels"]["queue"] = "q"
    pods["spec"]["nodeSelector"] = {"disk": "fast"}
    pods["spec"]["tolerations"] = [{"key": "k", "operator": "Exists"}]
    pods["spec"]["affinity"] = {"nodeAffinity": {}}
    pods["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
    return new


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ({}, True),
        ({"startTime": "2026-01-01T00:00:00Z"}, False),
        ({"active": 1}, False),
        (
            {
                "startTime": "2026-01-01T00:00:00Z",
                "conditions": [{"type": "Suspended", "status": "True"}],
            },
            True,
        ),
    ],
)
def test_a_suspended_job_at_rest_may_be_directed_elsewhere(
    status: dict[str, Any], *, allowed: bool
):
    old = {**job(suspend=True), "status": status}
    if allowed:
        validation.validate_update(JOBS, directed(old), old)
        validation.validate_update(JOBS, old, {**directed(old), "status": status})
        other = directed(old)
        other["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        assert "immutable" in complaints(validation.validate_update, JOBS, other, old)[0]
    else:
        [complaint] = complaints(validation.validate_update, JOBS, directed(old), old)
        assert complaint.startswith("spec.template: Invalid value")


# --- status

START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"


def true(*names: str) -> list[dict[str, str]]:
    return [{"type": name, "status": "True"} for name in names]


FINISHED = {
    "startTime": START,
    "completionTime": END,
    "conditions": true("SuccessCriteriaMet", "Complete"),
}


def said(status: dict[str, Any], before: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    obj = {**job(**spec), "status": status}
    return complaints(validation.validate_status, JOBS, obj, before or {})


def test_a_status_as_the_controller_writes_it_is_valid():
    validation.validate_status(JOBS, {**job(), "status": FINISHED}, {"startTime": START})


@pytest.mark.parametrize(
    ("status", "before", "complaint"),
    [
        (
            {"active": -1},
            {},
            "status.active: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"uncountedTerminatedPods": {"failed": ["a", "a"]}},
            {},
            'status.uncountedTerminatedPods.failed[1]: Duplicate value: "a"',
        ),
        (
            {**FINISHED, "active": 1},
            {},
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            {**FINISHED, "conditions": true("Complete")},
            {},
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            {"startTime": START, "conditions": true("Failed")},
            {},
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            {"startTime": START},
            {"startTime": START, "conditions": true("FailureTarget")},
            "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
        ),
        (
            {"startTime": START, "conditions": FINISHED["conditions"]},
            {},
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            {**FINISHED, "startTime": "2026-01-02T00:00:00Z"},
            {},
            'status.completionTime: Invalid value: "2026-01-01T00:05:00Z": completionTime cannot be set before startTime',
        ),
        (
            {},
            {"startTime": START},
            "status.startTime: Required value: startTime cannot be removed for unsuspended job",
        ),
        (
            {"failed": 1},
            {"failed": 2},
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ),
        (
            {"completedIndexes": "0"},
            {},
            'status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode',
        ),
    ],
)
def test_a_status_against_the_rules_is_refused(
    status: dict[str, Any], before: dict[str, Any], complaint: str
):
    assert said(status, before) == [complaint]


def test_indexes_in_a_status_are_right_and_do_not_overlap():
    spec = {**INDEXED, "backoffLimitPerIndex": 1}
    [complaint] = said({"completedIndexes": "0-1", "failedIndexes": "1"}, **spec)
    assert complaint.endswith("failedIndexes and completedIndexes overlap at index: 1")
    [complaint] = said({"completedIndexes": "1-9"}, **spec)
    assert complaint.endswith('error parsing completedIndexes: too large index: "9"')


def test_a_status_that_broke_a_rule_before_may_be_written_on():
    broken = {"completedIndexes": "0", "conditions": true("Failed"), "startTime": START}
    validation.validate_status(JOBS, {**job(), "status": {**broken, "failed": 1}}, broken)


# --- CronJobs


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"schedule": ""}, "spec.schedule: Required value"),
        (
            {"schedule": "a * * * *"},
            'spec.schedule: Invalid value: "a * * * *": failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax',
        ),
        (
            {"schedule": "TZ=UTC * * * * *"},
            'spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead',
        ),
        (
            {"timeZone": "Not/Known"},
            'spec.timeZone: Invalid value: "Not/Known": unknown time zone Not/Known',
        ),
        (
            {"timeZone": "../etc"},
            'spec.timeZone: Invalid value: "../etc": unknown time zone ../etc',
        ),
        (
            {"timeZone": ""},
            'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string',
        ),
        (
            {"concurrencyPolicy": "Odd"},
            'spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"',
        ),
        (
            {"startingDeadlineSeconds": -1},
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"jobTemplate": {"spec": {"template": template(), "manualSelector": True}}},
            'spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"',
        ),
        (
            {"jobTemplate": {"spec": {"template": template("Always")}}},
            'spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
    ],
)
def test_a_cron_job_against_the_rules_is_refused(spec: dict[str, Any], complaint: str):
    assert complaints(validation.validate, CRON_JOBS, cron_job(**spec)) == [complaint]


def test_a_cron_jobs_name_leaves_room_for_its_jobs():
    validation.validate(CRON_JOBS, cron_job("n" * 52, timeZone="Europe/Berlin"))
    [complaint] = complaints(validation.validate, CRON_JOBS, cron_job("n" * 53))
    assert complaint.endswith("must be no more than 52 characters")


def test_a_zone_in_a_schedule_may_stay_but_not_come():
    old = cron_job(schedule="TZ=UTC 0 * * * *")
    validation.validate_update(CRON_JOBS, changed(old, schedule="TZ=UTC 1 * * * *"), old)
    [complaint] = complaints(
        validation.validate_update, CRON_JOBS, changed(old, timeZone="Europe/Berlin"), old
    )
    assert "cannot use both timeZone field and TZ or CRON_TZ" in complaint
    plain = cron_job()
    new = changed(plain, schedule="CRON_TZ=UTC * * * * *")
    [complaint] = complaints(validation.validate_update, CRON_JOBS, new, plain)
    assert "cannot use TZ or CRON_TZ in schedule" in complaint
