# SPDX-License-Identifier: Apache-2.0
"""Rules of what makes pods from templates; StatefulSets have a module of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedge.api import names, selectors
from kedge.api.validation import metadata, pods

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

_PERCENT = re.compile(r"[0-9]+%")
_NOT_NEGATIVE = "must be greater than or equal to 0"
_COUNTED = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")


def validate_deployment(obj: Object, problems: Problems) -> None:
    """A Deployment: replicas, selector, template, strategy."""
    spec = obj.get("spec", {})
    _shared(spec, "Deployment", problems)
    for field in ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        not_negative(spec, field, problems)
    if spec.get("progressDeadlineSeconds", 1) <= spec.get("minReadySeconds", 0):
        problems.invalid(
            "spec.progressDeadlineSeconds",
            spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        )
    _strategy(spec.get("strategy", {}), "spec.strategy", ("Recreate", "RollingUpdate"), problems)


def validate_replica_set(obj: Object, problems: Problems) -> None:
    """A ReplicaSet: replicas, selector, template."""
    spec = obj.get("spec", {})
    _shared(spec, "ReplicaSet", problems)
    for field in ("replicas", "minReadySeconds"):
        not_negative(spec, field, problems)


def validate_replication_controller(obj: Object, problems: Problems) -> None:
    """A ReplicationController: its selector is a plain map of labels."""
    spec = obj.get("spec", {})
    not_negative(spec, "minReadySeconds", problems)
    selector = spec.get("selector")
    if not selector:
        problems.required("spec.selector")
    not_negative(spec, "replicas", problems)
    wanted = {"matchLabels": selector} if selector else None
    _template(spec.get("template"), wanted, "ReplicationController", problems)


def validate_replica_status(status: Object, problems: Problems) -> None:
    """The status of a ReplicaSet or ReplicationController."""
    for field in (*_COUNTED, "observedGeneration"):
        not_negative(status, field, problems, part="status")
    total, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    for field in _COUNTED[1:]:
        if status.get(field, 0) > total:
            problems.invalid(
                f"status.{field}", status.get(field, 0), "cannot be greater than replicas"
            )
    if status.get("availableReplicas", 0) > ready:
        problems.invalid(
            "status.availableReplicas",
            status.get("availableReplicas", 0),
            "cannot be greater than readyReplicas",
        )


def validate_daemon_set(obj: Object, problems: Problems) -> None:
    """A DaemonSet: selector, template, strategy."""
    spec = obj.get("spec", {})
    _shared(spec, "DaemonSet", problems)
    for field in ("minReadySeconds", "revisionHistoryLimit"):
        not_negative(spec, field, problems)
    _strategy(
        spec.get("updateStrategy", {}),
        "spec.updateStrategy",
        ("OnDelete", "RollingUpdate"),
        problems,
    )


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """The selector never changes: what it owns would be forgotten."""
    problems.immutable(
        "spec.selector", old.get("spec", {}).get("selector"), new.get("spec", {}).get("selector")
    )


def not_negative(spec: Object, field: str, problems: Problems, part: str = "spec") -> None:
    """Notes a count below zero."""
    if spec.get(field, 0) < 0:
        problems.invalid(f"{part}.{field}", spec[field], _NOT_NEGATIVE)


def _shared(spec: Object, kind: str, problems: Problems) -> None:
    selector = spec.get("selector")
    selector_of(selector, "daemonset" if kind == "DaemonSet" else "deployment", problems)
    _template(spec.get("template"), selector, kind, problems)


def selector_of(selector: Object | None, noun: str, problems: Problems) -> None:
    """The selector of a workload, which may not select everything."""
    if selector is None:
        problems.required("spec.selector")
        return
    label_selector(selector, "spec.selector", problems)
    if selectors.is_empty(selector):
        problems.invalid("spec.selector", selector, f"empty selector is invalid for {noun}")


def _template(
    template: Object | None, selector: Object | None, kind: str, problems: Problems
) -> None:
    if template is None:
        problems.required("spec.template")
        return
    template_metadata(template, selector, problems)
    pods.validate_spec(template.get("spec", {}), "spec.template.spec", problems)
    always_running(template.get("spec", {}), kind, problems)


def template_metadata(template: Object, selector: Object | None, problems: Problems) -> None:
    """What a template says of its pods must be what the workload selects."""
    labels = template.get("metadata", {}).get("labels", {})
    if (
        selector is not None
        and not selectors.is_empty(selector)
        and not selectors.matches(selector, labels)
    ):
        problems.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    metadata.labels(labels, "spec.template.labels", problems)
    metadata.annotation_map(
        template.get("metadata", {}).get("annotations", {}), "spec.template.annotations", problems
    )


def always_running(spec: Object, kind: str, problems: Problems) -> None:
    """Pods that are replaced when they end are not meant to end."""
    policy = spec.get("restartPolicy")
    if policy != "Always":
        problems.choice("spec.template.spec.restartPolicy", policy, ("Always",))
    if "activeDeadlineSeconds" in spec:
        problems.forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            f"activeDeadlineSeconds in {kind} is not Supported",
        )


def pod_template(template: Object, path: str, problems: Problems) -> None:
    """Labels, annotations and spec of a pod template."""
    about = template.get("metadata", {})
    metadata.labels(about.get("labels", {}), f"{path}.labels", problems)
    metadata.annotation_map(about.get("annotations", {}), f"{path}.annotations", problems)
    pods.validate_spec(template.get("spec", {}), f"{path}.spec", problems)


def label_selector(selector: Object, path: str, problems: Problems) -> None:
    """Keys, operators and values of a ``LabelSelector``."""
    metadata.labels(selector.get("matchLabels", {}), f"{path}.matchLabels", problems)
    for index, one in enumerate(selector.get("matchExpressions", ())):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = one.get("operator"), one.get("values")
        problems.text(f"{where}.key", one.get("key", ""), names.qualified(one.get("key", "")))
        if operator not in _OPERATORS:
            problems.invalid(f"{where}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not values:
            problems.required(
                f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"
            )
        elif operator in ("Exists", "DoesNotExist") and values:
            problems.forbidden(
                f"{where}.values",
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )


def _strategy(strategy: Object, path: str, types: tuple[str, str], problems: Problems) -> None:
    problems.choice(f"{path}.type", strategy.get("type"), types)
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") != "RollingUpdate":
        if rolling is not None:
            problems.forbidden(
                f"{path}.rollingUpdate",
                f"may not be specified when strategy `type` is '{strategy.get('type')}'",
            )
        return
    rolling = rolling or {}
    for field in ("maxUnavailable", "maxSurge"):
        amount(rolling.get(field), f"{path}.rollingUpdate.{field}", problems)
    if _is_zero(rolling.get("maxUnavailable")) and _is_zero(rolling.get("maxSurge")):
        problems.invalid(
            f"{path}.rollingUpdate.maxUnavailable",
            rolling.get("maxUnavailable"),
            "may not be 0 when `maxSurge` is 0",
        )


def amount(value: Any, path: str, problems: Problems) -> None:
    """Notes what is neither a number from zero up nor a percentage."""
    if type(value) is int and value < 0:
        problems.invalid(path, value, _NOT_NEGATIVE)
    if type(value) is str and not _PERCENT.fullmatch(value):
        detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
        problems.invalid(path, value, detail)


def _is_zero(value: Any) -> bool:
    return value in (0, "0%", None)
