# SPDX-License-Identifier: Apache-2.0
"""The pod of a Job. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.controllers.jobs.policies import judge
from kedge.cluster.machinery.job_pods import TRACKING, UNKNOWN
from kedge.cluster.machinery.owners import controller_reference

if TYPE_CHECKING:
    from kedge.cluster.controllers.jobs.model import Job
    from kedge.cluster.machinery.batch import Job as Record
    from kedge.cluster.machinery.records import Pod
    from kedge.cluster.machinery.wire import Object

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
VARIABLE = "JOB_COMPLETION_INDEX"
PREFIX_LENGTH = 58
"""What a generated name has room for before its random part."""


def pod_for(job: Job, record: Record, template: Object, index: int, last: Pod | None) -> Object:
    """A pod.

    Args:
        job: its Job.
        record: the same, as its owner.
        template: of its pods.
        index: its completion index; ``UNKNOWN`` for none.
        last: the failed pod of that index which it follows.
    """
    about = template.get("metadata") or {}
    finalizers = [each for each in about.get("finalizers") or [] if each != TRACKING]
    metadata: Object = {
        "generateName": f"{job.name}-",
        "namespace": job.namespace,
        "labels": dict(about.get("labels") or {}),
        "annotations": dict(about.get("annotations") or {}),
        "finalizers": [*finalizers, TRACKING],
        "ownerReferences": [controller_reference("batch/v1", "Job", record)],
    }
    spec = dict(template.get("spec") or {})
    if index != UNKNOWN:
        metadata["generateName"] = generate_name(job.name, index)
        metadata["labels"][INDEX] = str(index)
        metadata["annotations"][INDEX] = str(index)
        if job.backoff_limit_per_index is not None:
            metadata["annotations"].update(_failures(job, last))
        spec["hostname"] = f"{job.name}-{index}"
    if job.indexed:
        for field in ("initContainers", "containers"):
            if spec.get(field):
                spec[field] = [_with_variable(one) for one in spec[field]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def generate_name(name: str, index: int) -> str:
    """The prefix of a pod's name, with its index whole."""
    ending = f"-{index}-"
    return name[: PREFIX_LENGTH - len(ending)] + ending


def _failures(job: Job, last: Pod | None) -> dict[str, str]:
    """How often the index of a new pod has failed."""
    if last is None or last.job is None:
        return {FAILURES: "0"}
    counts = judge(job, last).counts
    ignored = last.job.ignored + (not counts)
    counted = {FAILURES: str(last.job.failures + counts)}
    return {**counted, IGNORED: str(ignored)} if ignored else counted


def _with_variable(container: Object) -> Object:
    variables = container.get("env") or []
    if any(one.get("name") == VARIABLE for one in variables):
        return container
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*variables, {"name": VARIABLE, "valueFrom": source}]}
