# SPDX-License-Identifier: Apache-2.0
"""Rules of what a Job makes of its pods' failures and successes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import indexes, names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

RULES = 20
"""Of a policy."""
EXIT_CODES = 255
PATTERNS = 20
INDEXES_LENGTH = 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")


def validate(spec: Object, path: str, problems: Problems) -> None:
    """The policies in a Job's spec."""
    if "podFailurePolicy" in spec:
        _failure(spec, f"{path}.podFailurePolicy.rules", problems)
    if "successPolicy" in spec:
        policy = spec["successPolicy"]
        if spec.get("completionMode") != "Indexed":
            detail = "requires indexed completion mode"
            problems.invalid(f"{path}.successPolicy", policy, detail)
        else:
            _success(spec, policy.get("rules", []), f"{path}.successPolicy.rules", problems)
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in allowed:
        problems.unsupported(f"{path}.podReplacementPolicy", replacement, allowed)


def _failure(spec: Object, path: str, problems: Problems) -> None:
    rules = spec["podFailurePolicy"].get("rules", [])
    if len(rules) > RULES:
        problems.too_many(path, len(rules), RULES)
        return
    pod = spec.get("template", {}).get("spec", {})
    containers = {
        one.get("name") for field in ("containers", "initContainers") for one in pod.get(field, ())
    }
    for index, rule in enumerate(rules):
        where = f"{path}[{index}]"
        action = rule.get("action")
        _one_of(action, f"{where}.action", _ACTIONS, problems)
        if action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            detail = "requires the backoffLimitPerIndex to be set"
            problems.invalid(f"{where}.action", action, detail)
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if codes is not None:
            _exit_codes(codes, f"{where}.onExitCodes", containers, problems)
        _conditions(patterns, f"{where}.onPodConditions", problems)
        if codes is not None and patterns:
            detail = "specifying both OnExitCodes and OnPodConditions is not supported"
            problems.unfit(where, detail)
        if codes is None and not patterns:
            problems.unfit(where, "specifying one of OnExitCodes and OnPodConditions is required")


def _one_of(value: Any, path: str, allowed: tuple[str, ...], problems: Problems) -> None:
    if not value:
        listed = " ".join(f'"{one}"' for one in allowed)
        problems.required(path, f"valid values: [{listed}]")
    elif value not in allowed:
        problems.unsupported(path, value, allowed)


def _conditions(patterns: list[Object], path: str, problems: Problems) -> None:
    if len(patterns) > PATTERNS:
        problems.too_many(path, len(patterns), PATTERNS)
        return
    for index, pattern in enumerate(patterns):
        kind = pattern.get("type", "")
        problems.text(f"{path}[{index}].type", kind, names.qualified(kind))
        _one_of(pattern.get("status"), f"{path}[{index}].status", _STATUSES, problems)


def _exit_codes(codes: Object, path: str, containers: set[Any], problems: Problems) -> None:
    operator, values = codes.get("operator"), codes.get("values") or []
    _one_of(operator, f"{path}.operator", _OPERATORS, problems)
    if "containerName" in codes and codes["containerName"] not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        problems.invalid(f"{path}.containerName", codes["containerName"], detail)
    if not values:
        problems.invalid(f"{path}.values", values, "at least one value is required")
    elif len(values) > EXIT_CODES:
        problems.too_many(f"{path}.values", len(values), EXIT_CODES)
        return
    seen: set[int] = set()
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            problems.invalid(f"{path}.values[{index}]", value, "must not be 0 for the In operator")
        if value in seen:
            problems.duplicate(f"{path}.values[{index}]", value)
        seen.add(value)
    if values != sorted(values):
        problems.invalid(f"{path}.values", values, "must be ordered")


def _success(spec: Object, rules: list[Object], path: str, problems: Problems) -> None:
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        problems.required(path, detail)
    if len(rules) > RULES:
        problems.too_many(path, len(rules), RULES)
        return
    completions = spec.get("completions", 0)
    for index, rule in enumerate(rules):
        _success_rule(rule, completions, f"{path}[{index}]", problems)


def _success_rule(rule: Object, completions: int, path: str, problems: Problems) -> None:
    count, text = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and text is None:
        detail = "at least one of succeededCount or succeededIndexes must be specified"
        problems.required(path, detail)
    wanted = indexes.Indexes()
    if text is not None:
        if len(text) > INDEXES_LENGTH:
            problems.too_long(f"{path}.succeededIndexes", INDEXES_LENGTH)
            return
        wanted, complaint = indexes.check(text, completions)
        if complaint:
            detail = f"error parsing succeededIndexes: {complaint}"
            problems.invalid(f"{path}.succeededIndexes", text, detail)
    if count is None:
        return
    where = f"{path}.succeededCount"
    if count < 0:
        problems.invalid(where, count, "must be greater than or equal to 0")
    if count > completions:
        of = f"{completions} (the number of specified completions)"
        problems.invalid(where, count, f"must be less than or equal to {of}")
    if text is not None and count > len(wanted):
        of = f"{len(wanted)} (the number of indexes in the specified succeededIndexes field)"
        problems.invalid(where, count, f"must be less than or equal to {of}")
