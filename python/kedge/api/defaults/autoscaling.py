# SPDX-License-Identifier: Apache-2.0
"""The defaults of HorizontalPodAutoscalers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

Object = dict[str, Any]

_PERIOD = 15
_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": _PERIOD},
        {"type": "Percent", "value": 100, "periodSeconds": _PERIOD},
    ],
}
_DOWN: Object = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": _PERIOD}],
}
_CPU: Object = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}


def autoscaler(obj: Object) -> None:
    """Of an autoscaler: at least one replica, the processor, and how fast it may go."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [deepcopy(_CPU)]
    behavior = spec.get("behavior")
    if behavior is not None:
        for field, rules in (("scaleUp", _UP), ("scaleDown", _DOWN)):
            behavior[field] = {**deepcopy(rules), **(behavior.get(field) or {})}
    obj.setdefault("status", {}).setdefault("desiredReplicas", 0)
