# SPDX-License-Identifier: Apache-2.0
"""Rules of PodDisruptionBudgets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedge.api.validation.workloads import label_selector

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

_PERCENT = re.compile(r"[0-9]+%")
_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used "
    "for validation is '[0-9]+%')"
)
_NOT_NEGATIVE = "must be greater than or equal to 0"
_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def validate_budget(obj: Object, problems: Problems) -> None:
    """Either of two amounts, and a selector."""
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        problems.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        if field in spec:
            _amount(spec[field], f"spec.{field}", problems)
    if spec.get("selector") is not None:
        label_selector(spec["selector"], "spec.selector", problems)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None:
        allowed = ("AlwaysAllow", "IfHealthyBudget")
        problems.choice("spec.unhealthyPodEvictionPolicy", policy, allowed)


def _amount(value: Any, path: str, problems: Problems) -> None:
    if type(value) is int:
        if value < 0:
            problems.invalid(path, value, _NOT_NEGATIVE)
    elif not _PERCENT.fullmatch(value):
        problems.invalid(path, value, _PERCENT_RULE)
    elif len(value) > 8 or int(value[:-1]) > 100:
        problems.invalid(path, value, "must not be greater than 100%")


def validate_budget_status(status: Object, problems: Problems) -> None:
    """Counts are none or more."""
    for field in _COUNTS:
        if status.get(field, 0) < 0:
            problems.invalid(f"status.{field}", status[field], _NOT_NEGATIVE)
