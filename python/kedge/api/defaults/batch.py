# SPDX-License-Identifier: Apache-2.0
"""The defaults of Jobs and of what makes Jobs."""

from __future__ import annotations

from typing import Any

from kedge.api.defaults.workloads import template

Object = dict[str, Any]

BACKOFF_LIMIT = 6
NO_LIMIT = 2**31 - 1


def job(obj: Object) -> None:
    """A Job; one without labels has those of its pods."""
    obj.setdefault("spec", {}).setdefault("template", {})
    spec = template(obj)
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    limit = NO_LIMIT if "backoffLimitPerIndex" in spec else BACKOFF_LIMIT
    spec.setdefault("backoffLimit", limit)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    spec.setdefault("podReplacementPolicy", policy)
    spec.setdefault("manualSelector", False)
    _failure_policy(spec)
    labels = spec["template"]["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = labels  # the same ones: what a new Job adds to them is in both


def cron_job(obj: Object) -> None:
    """A CronJob; its Jobs get theirs when they are made."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    jobs = spec.setdefault("jobTemplate", {})
    jobs.setdefault("metadata", {})
    jobs.setdefault("spec", {}).setdefault("template", {})
    _failure_policy(template(jobs))


def _failure_policy(spec: Object) -> None:
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        for pattern in rule.get("onPodConditions", ()):
            pattern.setdefault("status", "True")
