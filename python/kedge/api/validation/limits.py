# SPDX-License-Identifier: Apache-2.0
"""Rules of LimitRanges and ResourceQuotas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names, quantities, quota

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_MAPS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_CONTAINERS = ("cpu", "ephemeral-storage", "memory")
_STANDARD = frozenset({
    "cpu", "ephemeral-storage", "memory", "persistentvolumeclaims", "pods", "replicationcontrollers",
    "requests.storage", "resourcequotas", "secrets", "services", "storage",
})  # fmt: skip
_IMMUTABLE = "field is immutable"


def validate_range(obj: Object, problems: Problems) -> None:
    """A LimitRange: bounds that do not contradict each other."""
    seen: set[str] = set()
    for index, limit in enumerate(obj.get("spec", {}).get("limits", ())):
        path, kind = f"spec.limits[{index}]", limit.get("type", "")
        problems.text(f"{path}.type", kind, names.qualified(kind))
        if kind and "/" not in kind and kind not in TYPES:
            detail = "must be a standard limit type or fully qualified"
            problems.invalid(f"{path}.type", kind, detail)
        if kind in seen:
            problems.duplicate(f"{path}.type", kind)
        seen.add(kind)
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if limit.get(field):
                    problems.forbidden(
                        f"{path}.{field}", "may not be specified when `type` is 'Pod'"
                    )
        if kind == "PersistentVolumeClaim" and not any(
            "storage" in limit.get(field, {}) for field in ("min", "max")
        ):
            detail = "either minimum or maximum storage value is required, but neither was provided"
            problems.required(f"{path}.limits", detail)
        for name in sorted({name for field in _MAPS for name in limit.get(field, {})}):
            _bounds(limit, name, path, problems)


def _bounds(limit: Object, name: str, path: str, problems: Problems) -> None:
    found = {field: limit[field][name] for field in _MAPS if name in limit.get(field, {})}
    for field in found:
        _resource(name, limit.get("type", ""), f"{path}.{field}[{name}]", problems)
    for low, high, at, shown, words in _ORDERS:
        if low in found and high in found:
            one, other = found[low], found[high]
            if quantities.parse(one) > quantities.parse(other):
                text = f"{words[0]} {one} is greater than {words[1]} {other}"
                problems.invalid(f"{path}.{at}[{name}]", found[shown], text)
    if "maxLimitRequestRatio" in found:
        _ratio(found, f"{path}.maxLimitRequestRatio[{name}]", problems)
    is_fixed = "/" in name or name.startswith("hugepages-")
    if is_fixed and {"default", "defaultRequest"} <= found.keys():
        default, request = found["default"], found["defaultRequest"]
        if quantities.parse(default) != quantities.parse(request):
            text = f"default value {default} must equal to defaultRequest value {request} in {name}"
            problems.invalid(f"{path}.default[{name}]", default, text)


_ORDERS = (
    ("min", "max", "min", "min", ("min value", "max value")),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", ("min value", "default request value")),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", ("default request value", "max value")),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest", ("default request value", "default limit value")),
    ("min", "default", "default", "min", ("min value", "default value")),
    ("default", "max", "default", "max", ("default value", "max value")),
)  # fmt: skip
"""What may not be greater than what; where that is said, which value is shown, and how both are called."""


def _ratio(found: Object, path: str, problems: Problems) -> None:
    shown = found["maxLimitRequestRatio"]
    ratio = quantities.parse(shown)
    if ratio < 1:
        problems.invalid(path, shown, f"ratio {shown} is less than 1")
    low = quantities.parse(found.get("min", "0"))
    if low > 0 and "max" in found:
        bound = quantities.parse(found["max"]) / low
        if ratio > bound:
            text = f"ratio {shown} is greater than max/min = {bound:.6f}"
            problems.invalid(path, shown, text)


def _resource(name: str, kind: str, path: str, problems: Problems) -> None:
    complaint = names.qualified(name)
    problems.text(path, name, complaint)
    if complaint or "/" in name:
        return
    if kind == "Container":
        if name not in _CONTAINERS and not name.startswith("hugepages-"):
            problems.invalid(path, name, "must be a standard resource for containers")
    elif name not in _STANDARD and not name.startswith("hugepages-"):
        problems.invalid(path, name, "must be a standard resource type or fully qualified")


def validate_quota(obj: Object, problems: Problems) -> None:
    """A ResourceQuota: what is counted, and in which scopes."""
    spec = obj.get("spec", {})
    for name, amount in spec.get("hard", {}).items():
        path = f"spec.hard[{name}]"
        complaint = names.qualified(name)
        problems.text(path, name, complaint)
        if not complaint and "/" not in name and not quota.is_standard(name):
            problems.invalid(path, name, "must be a standard resource for quota")
        value = quantities.parse(amount)
        if value < 0:
            problems.invalid(path, amount, "must be greater than or equal to 0")
        elif quota.is_count(name) and value != value.to_integral_value():
            problems.invalid(path, amount, "must be an integer")
    scopes = spec.get("scopes", [])
    for scope in scopes:
        _scope(scope, spec, "spec.scopes", scopes, problems)
    _conflicts(scopes, "spec.scopes", scopes, problems)
    expressions = spec.get("scopeSelector", {}).get("matchExpressions", [])
    for index, one in enumerate(expressions):
        _selector(one, spec, f"spec.scopeSelector.matchExpressions[{index}]", problems)
    named = [one.get("scopeName", "") for one in expressions]
    _conflicts(named, "spec.scopeSelector.matchExpressions", expressions, problems)


def _scope(scope: str, spec: Object, path: str, shown: Any, problems: Problems) -> None:
    if scope not in quota.SCOPES:
        problems.invalid(path, shown, "unsupported scope")
    for name in spec.get("hard", {}):
        if quota.is_standard(name) and not quota.fits(scope, name):
            problems.invalid(path, shown, "unsupported scope applied to resource")


def _selector(one: Object, spec: Object, path: str, problems: Problems) -> None:
    scope, operator = one.get("scopeName", ""), one.get("operator", "")
    _scope(scope, spec, f"{path}.scopeName", scope, problems)
    if scope in quota.SCOPES and scope not in quota.NAMED_SCOPES and operator != "Exists":
        detail = (
            "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
            "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
            "ResourceQuotaScopeCrossNamespacePodAffinity"
        )
        problems.invalid(f"{path}.operator", operator, detail)
    match operator:
        case "In" | "NotIn":
            if not one.get("values"):
                detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                problems.required(f"{path}.values", detail)
        case "Exists" | "DoesNotExist":
            if one.get("values"):
                detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                problems.invalid(f"{path}.values", one["values"], detail)
        case _:
            problems.invalid(f"{path}.operator", operator, "not a valid selector operator")


def _conflicts(scopes: list[str], path: str, shown: Any, problems: Problems) -> None:
    for pair in ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"}):
        if pair <= set(scopes):
            problems.invalid(path, shown, "conflicting scopes")


def validate_quota_update(new: Object, old: Object, problems: Problems) -> None:
    """What a quota is about never changes."""
    before, after = old.get("spec", {}), new.get("spec", {})
    if set(before.get("scopes", ())) != set(after.get("scopes", ())):
        problems.invalid("spec.scopes", after.get("scopes"), _IMMUTABLE)
    if before.get("scopeSelector") != after.get("scopeSelector"):
        problems.invalid("spec.scopeSelector", after.get("scopeSelector"), _IMMUTABLE)
