# SPDX-License-Identifier: Apache-2.0
"""Rules of HorizontalPodAutoscalers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names, quantities

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

MAX_PERIOD = 1800
MAX_WINDOW = 3600
SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_NOT_NEGATIVE = "must be greater than or equal to 0"
_TWO = "may not set both a target raw value and a target utilization"
_NEITHER = "must set either a target raw value or a target utilization"


def validate(obj: Object, problems: Problems) -> None:
    """What is scaled, between which numbers, by which metrics, how fast."""
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        problems.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most == 0:
        problems.required("spec.maxReplicas", "must be set and greater than 0")
    elif most < 0:
        problems.invalid("spec.maxReplicas", most, "must be greater than or equal to 1")
    if most < least:
        detail = "must be greater than or equal to `minReplicas`"
        problems.invalid("spec.maxReplicas", most, detail)
    reference = spec.get("scaleTargetRef") or {}
    _reference(reference, "spec.scaleTargetRef", problems, needs_group=True)
    for index, metric in enumerate(spec.get("metrics") or ()):
        _metric(metric, f"spec.metrics[{index}]", problems)
    for field in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(field)
        if rules is not None:
            _rules(rules, f"spec.behavior.{field}", problems)


def validate_status(status: Object, problems: Problems) -> None:
    """Counts are none or more."""
    for field in ("currentReplicas", "desiredReplicas"):
        if status.get(field, 0) < 0:
            problems.invalid(f"status.{field}", status[field], _NOT_NEGATIVE)


def _reference(reference: Object, path: str, problems: Problems, *, needs_group: bool) -> None:
    for field in ("kind", "name"):
        value = reference.get(field, "")
        if not value:
            problems.required(f"{path}.{field}")
        else:
            problems.text(f"{path}.{field}", value, names.path_segment(value))
    version = reference.get("apiVersion", "")
    if version.count("/") > 1:
        detail = f"unexpected GroupVersion string: {version}"
        problems.invalid(f"{path}.apiVersion", version, detail)
    elif needs_group and "/" not in version:
        problems.invalid(f"{path}.apiVersion", version, "apiVersion must specify API group")


def _metric(metric: Object, path: str, problems: Problems) -> None:
    kind = metric.get("type", "")
    if not kind:
        problems.required(f"{path}.type", "must specify a metric source type")
    elif kind not in SOURCES:
        problems.choice(f"{path}.type", kind, SOURCES)
    present = [field for field in _ORDER if metric.get(field) is not None]
    if present:
        _RULES[present[0]](metric[present[0]], f"{path}.{present[0]}", problems)
    expected = SOURCES.get(kind, "")
    if expected and expected not in present:
        detail = "must populate information for the given metric source"
        problems.required(f"{path}.{expected}", detail)
    if len(present) != 1:
        for field in present:
            if field != expected:
                problems.forbidden(f"{path}.{field}", "must populate the given metric source only")


def _object(source: Object, path: str, problems: Problems) -> None:
    about = source.get("describedObject") or {}
    _reference(about, f"{path}.describedObject", problems, needs_group=False)
    _identifier(source, path, problems)
    target = _target(source, path, problems)
    if "value" not in target and "averageValue" not in target:
        detail = "must set either a target value or averageValue"
        problems.required(f"{path}.target.averageValue", detail)


def _external(source: Object, path: str, problems: Problems) -> None:
    _identifier(source, path, problems)
    target = _target(source, path, problems)
    if "value" not in target and "averageValue" not in target:
        detail = "must set either a target value for metric or a per-pod target"
        problems.required(f"{path}.target.averageValue", detail)
    if "value" in target and "averageValue" in target:
        detail = "may not set both a target value for metric and a per-pod target"
        problems.forbidden(f"{path}.target.value", detail)


def _pods(source: Object, path: str, problems: Problems) -> None:
    _identifier(source, path, problems)
    if "averageValue" not in _target(source, path, problems):
        detail = "must specify a positive target averageValue"
        problems.required(f"{path}.target.averageValue", detail)


def _resource(source: Object, path: str, problems: Problems) -> None:
    if not source.get("name"):
        problems.required(f"{path}.name", "must specify a resource name")
    target = _target(source, path, problems)
    if "averageUtilization" not in target and "averageValue" not in target:
        problems.required(f"{path}.target.averageUtilization", _NEITHER)
    if "averageUtilization" in target and "averageValue" in target:
        problems.forbidden(f"{path}.target.averageValue", _TWO)


def _container_resource(source: Object, path: str, problems: Problems) -> None:
    container = source.get("container", "")
    if not container:
        problems.required(f"{path}.container", "must specify a container")
    else:
        problems.text(f"{path}.container", container, names.label(container))
    _resource(source, path, problems)


def _identifier(source: Object, path: str, problems: Problems) -> None:
    name = (source.get("metric") or {}).get("name", "")
    if not name:
        problems.required(f"{path}.metric.name", "must specify a metric name")
    else:
        problems.text(f"{path}.metric.name", name, names.path_segment(name))


def _target(source: Object, path: str, problems: Problems) -> Object:
    target: Object = source.get("target") or {}
    where, kind = f"{path}.target", target.get("type", "")
    if not kind:
        problems.required(f"{where}.type", "must specify a metric target type")
    if kind not in ("Utilization", "Value", "AverageValue"):
        detail = "must be either Utilization, Value, or AverageValue"
        problems.invalid(f"{where}.type", kind, detail)
    for field in ("value", "averageValue"):
        if field in target and quantities.parse(target[field]) <= 0:
            problems.invalid(f"{where}.{field}", target[field], "must be positive")
    if target.get("averageUtilization", 1) < 1:
        part = target["averageUtilization"]
        problems.invalid(f"{where}.averageUtilization", part, "must be greater than 0")
    return target


def _rules(rules: Object, path: str, problems: Problems) -> None:
    window = rules.get("stabilizationWindowSeconds", 0)
    where = f"{path}.stabilizationWindowSeconds"
    if window < 0:
        problems.invalid(where, window, "must be greater than or equal to zero")
    if window > MAX_WINDOW:
        problems.invalid(where, window, f"must be less than or equal to {MAX_WINDOW}")
    if rules.get("selectPolicy") is not None:
        allowed = ("Disabled", "Max", "Min")
        problems.choice(f"{path}.selectPolicy", rules["selectPolicy"], allowed)
    if not rules.get("policies"):
        problems.required(f"{path}.policies", "must specify at least one Policy")
    for index, policy in enumerate(rules.get("policies") or ()):
        _policy(policy, f"{path}.policies[{index}]", problems)
    if rules.get("tolerance") is not None and quantities.parse(rules["tolerance"]) < 0:
        problems.invalid(f"{path}.tolerance", rules["tolerance"], _NOT_NEGATIVE)


def _policy(policy: Object, path: str, problems: Problems) -> None:
    problems.choice(f"{path}.type", policy.get("type"), ("Percent", "Pods"))
    for field in ("value", "periodSeconds"):
        if policy.get(field, 0) <= 0:
            problems.invalid(f"{path}.{field}", policy.get(field, 0), "must be greater than zero")
    if policy.get("periodSeconds", 0) > MAX_PERIOD:
        detail = f"must be less than or equal to {MAX_PERIOD}"
        problems.invalid(f"{path}.periodSeconds", policy["periodSeconds"], detail)


_RULES = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
_ORDER = tuple(_RULES)
