# SPDX-License-Identifier: Apache-2.0
"""Rules of Jobs, also of those in the template of a CronJob."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedge.api import names, selectors
from kedge.api.validation import job_policies, workloads

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
MOST_INDEXED = 100_000
"""Parallelism and failed indexes of an Indexed Job, so that its status stays small."""
MANY_COMPLETIONS = 100_000
MOST_WITH_MANY = 10_000
MANAGED_BY_LENGTH = 63
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", re.ASCII)
_IMMUTABLE = (
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
)


def validate(obj: Object, problems: Problems) -> None:
    """A Job."""
    spec, about = obj.get("spec", {}), obj["metadata"]
    validate_spec(spec, "spec", problems)
    selector, labels = spec.get("selector"), _labels(spec)
    if selector is None:
        problems.required("spec.selector")
    else:
        workloads.label_selector(selector, "spec.selector", problems)
        if not spec.get("manualSelector"):
            _generated(about, selector, labels, problems)
        if not selectors.matches(selector, labels):
            detail = "`selector` does not match template `labels`"
            problems.invalid("spec.template.metadata.labels", labels, detail)
    completions = spec.get("completions", 0)
    if spec.get("completionMode") == "Indexed" and completions > 0:
        longest = f"{about.get('name', '')}-{completions - 1}"
        if names.label(longest):
            detail = f"will not able to create pod with invalid DNS label: {longest}"
            problems.invalid("metadata.name", about.get("name", ""), detail)


def _labels(spec: Object) -> dict[str, str]:
    found: dict[str, str] = spec.get("template", {}).get("metadata", {}).get("labels", {})
    return found


def _generated(about: Object, selector: Object, labels: dict[str, str], problems: Problems) -> None:
    """The selector and labels that nobody but the API server may choose."""
    wanted = {
        UID_LABELS[0]: about.get("uid", ""),
        NAME_LABELS[0]: about.get("name", ""),
        UID_LABELS[1]: about.get("uid", ""),
        NAME_LABELS[1]: about.get("name", ""),
    }
    for key, value in wanted.items():
        path = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            problems.required(path, f"must be '{value}'")
        elif labels[key] != value:
            problems.invalid(path, labels, f"must be '{value}'")
    if not selectors.matches(selector, wanted):
        problems.invalid("spec.selector", selector, "`selector` not auto-generated")


def validate_spec(spec: Object, path: str, problems: Problems) -> None:
    """A Job's spec, but for its selector."""
    for field in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        not_negative(spec, field, path, problems)
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        problems.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if "managedBy" in spec:
        _managed_by(spec["managedBy"], f"{path}.managedBy", problems)
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in ("NonIndexed", "Indexed"):
        problems.unsupported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    elif mode == "Indexed":
        _indexed(spec, path, problems)
    else:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if field in spec:
                detail = "requires indexed completion mode"
                problems.invalid(f"{path}.{field}", spec[field], detail)
    job_policies.validate(spec, path, problems)
    _template(spec, path, problems)


def not_negative(spec: Object, field: str, path: str, problems: Problems) -> None:
    """Notes a number below zero."""
    if spec.get(field, 0) < 0:
        problems.invalid(f"{path}.{field}", spec[field], "must be greater than or equal to 0")


def _indexed(spec: Object, path: str, problems: Problems) -> None:
    completions, parallelism = spec.get("completions"), spec.get("parallelism", 0)
    most_failed = spec.get("maxFailedIndexes")
    if completions is None:
        problems.required(f"{path}.completions", "when completion mode is Indexed")
    if parallelism > MOST_INDEXED:
        detail = f"must be less than or equal to {MOST_INDEXED} when completion mode is Indexed"
        problems.invalid(f"{path}.parallelism", parallelism, detail)
    if most_failed is not None:
        if completions is not None and most_failed > completions:
            detail = "must be less than or equal to completions"
            problems.invalid(f"{path}.maxFailedIndexes", most_failed, detail)
        if most_failed > MOST_INDEXED:
            detail = f"must be less than or equal to {MOST_INDEXED}"
            problems.invalid(f"{path}.maxFailedIndexes", most_failed, detail)
    if (completions or 0) <= MANY_COMPLETIONS or "backoffLimitPerIndex" not in spec:
        return
    if most_failed is None:
        detail = f"must be specified when completions is above {MANY_COMPLETIONS}"
        problems.required(f"{path}.maxFailedIndexes", detail)
    detail = (
        f"must be less than or equal to {MOST_WITH_MANY} when completions are above {MANY_COMPLETIONS} "
        "and used with backoff limit per index"
    )
    for field, value in (("parallelism", parallelism), ("maxFailedIndexes", most_failed or 0)):
        if value > MOST_WITH_MANY:
            problems.invalid(f"{path}.{field}", value, detail)


def _managed_by(value: str, path: str, problems: Problems) -> None:
    host, slash, rest = value.partition("/")
    if not value:
        problems.required(path)
    elif not (host and slash and rest):
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        problems.invalid(path, value, detail)
    else:
        problems.text(path, host, names.subdomain(host))
        if not _PATH.fullmatch(rest):
            detail = f"Invalid path (regex used for validation is '{_PATH.pattern}')"
            problems.invalid(path, rest, detail)
    if len(value) > MANAGED_BY_LENGTH:
        problems.too_long(path, MANAGED_BY_LENGTH)


def _template(spec: Object, path: str, problems: Problems) -> None:
    where = f"{path}.template.spec.restartPolicy"
    template = spec.get("template", {})
    workloads.pod_template(template, f"{path}.template", problems)
    policy = template.get("spec", {}).get("restartPolicy")
    if policy in (None, "", "Always"):
        problems.required(where, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        problems.unsupported(where, policy, ("OnFailure", "Never"))
    elif "podFailurePolicy" in spec and policy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        problems.invalid(where, policy, detail)


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """What of a Job never changes, and what may while it is suspended."""
    spec, before = new.get("spec", {}), old.get("spec", {})
    _completions(spec, before, problems)
    problems.immutable("spec.selector", before.get("selector"), spec.get("selector"))
    template, was = spec.get("template", {}), before.get("template", {})
    if _is_at_rest(old):
        was = _with_directives(was, template)
    problems.immutable("spec.template", was, template)
    for field in _IMMUTABLE:
        problems.immutable(f"spec.{field}", before.get(field), spec.get(field))


def _completions(spec: Object, before: Object, problems: Problems) -> None:
    """An Indexed Job is scaled by changing completions and parallelism alike."""
    now = spec.get("completions")
    if spec.get("completionMode") != "Indexed":
        problems.immutable("spec.completions", before.get("completions"), now)
    elif now is not None and now not in (before.get("completions"), spec.get("parallelism")):
        detail = "can only be modified in tandem with spec.parallelism"
        problems.invalid("spec.completions", now, detail)


def _is_at_rest(job: Object) -> bool:
    """Suspended, and either never started or stopped, without a pod that is left."""
    status = job.get("status", {})
    if not job.get("spec", {}).get("suspend") or status.get("active", 0):
        return False
    return "startTime" not in status or is_true(status, "Suspended")


def is_true(status: Object, name: str) -> bool:
    """Whether a status has a condition that is True."""
    return any(
        one.get("type") == name and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )


def _with_directives(was: Object, now: Object) -> Object:
    """A template with what may change of it as in the new one: where its pods go, and what they get."""
    about, new_about = dict(was.get("metadata", {})), now.get("metadata", {})
    spec, new_spec = dict(was.get("spec", {})), now.get("spec", {})
    for field in ("annotations", "labels"):
        _take(about, new_about, field)
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        _take(spec, new_spec, field)
    affinity = {**spec.get("affinity", {})}
    _take(affinity, new_spec.get("affinity", {}), "nodeAffinity")
    if affinity or new_spec.get("affinity") == {}:
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)
    for field in ("containers", "initContainers"):
        theirs = {one.get("name"): one for one in new_spec.get(field, ())}
        if field in spec:
            spec[field] = [dict(one) for one in spec[field]]
            for one in spec[field]:
                _take(one, theirs.get(one.get("name"), {}), "resources")
    return {**was, "metadata": about, "spec": spec}


def _take(into: Object, source: Object, field: str) -> None:
    if field in source:
        into[field] = source[field]
    else:
        into.pop(field, None)
