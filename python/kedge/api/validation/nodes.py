# SPDX-License-Identifier: Apache-2.0
"""Rules of Nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate(obj: Object, problems: Problems) -> None:
    """Taints are legal and occur once."""
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(obj.get("spec", {}).get("taints", ())):
        path = f"spec.taints[{index}]"
        key = taint.get("key", "")
        problems.text(f"{path}.key", key, names.qualified(key))
        problems.text(
            f"{path}.value", taint.get("value", ""), names.label_value(taint.get("value", ""))
        )
        problems.choice(f"{path}.effect", taint.get("effect"), EFFECTS)
        if (key, taint.get("effect", "")) in seen:
            problems.duplicate(path, taint)
        seen.add((key, taint.get("effect", "")))


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """What names the machine is set once."""
    for field in ("providerID", "podCIDR"):
        before = old.get("spec", {}).get(field)
        if before:
            problems.immutable(f"spec.{field}", before, new.get("spec", {}).get(field))
