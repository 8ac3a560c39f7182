# SPDX-License-Identifier: Apache-2.0
"""Label selectors on dicts: the structured form of specs, and its text form.

Lists and watches select in Rust; this is for decisions that hold an object in hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a ``LabelSelector`` selects labels; none selects nothing, an empty one everything."""
    if selector is None:
        return False
    have = labels or {}
    if any(have.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, have) for one in selector.get("matchExpressions") or ())


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.get("key", ""))
    values = requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def is_empty(selector: Mapping[str, Any] | None) -> bool:
    """Whether a selector names no label."""
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def text(selector: Mapping[str, Any] | None) -> str:
    """A selector as a query would write it, such as ``app=web,tier in (a,b)``."""
    parts = [
        f"{key}={value}"
        for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())
    ]
    for one in (selector or {}).get("matchExpressions") or ():
        key, values = one.get("key", ""), ",".join(one.get("values") or ())
        match one.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
    return ",".join(parts)
