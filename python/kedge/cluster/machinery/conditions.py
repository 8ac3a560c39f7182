# SPDX-License-Identifier: Apache-2.0
"""Conditions of a status, as lists of dicts. Pure: every function returns a new list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.times import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Condition = dict[str, Any]


def find(conditions: Iterable[Mapping[str, Any]] | None, name: str) -> Mapping[str, Any] | None:
    """The condition of that type."""
    return next((each for each in conditions or () if each.get("type") == name), None)


def without(conditions: Iterable[Condition] | None, name: str) -> list[Condition]:
    """The conditions less the one of that type."""
    return [each for each in conditions or () if each.get("type") != name]


def with_condition(
    conditions: Iterable[Condition] | None,
    name: str,
    status: str,
    *,
    reason: str,
    message: str,
    now: float,
    updates: bool = False,
) -> list[Condition]:
    """Sets a condition; its transition time moves only when its status does.

    Args:
        conditions: what there was.
        name: the condition's type.
        status: True, False or Unknown.
        reason: a CamelCase word.
        message: for a person.
        now: epoch seconds.
        updates: whether this kind of condition has ``lastUpdateTime`` (Deployments do).
    """
    before = list(conditions or ())
    old = find(before, name)
    moved = old is None or old.get("status") != status
    condition: Condition = {
        "type": name,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": text_of(now)
        if moved or old is None
        else old.get("lastTransitionTime"),
    }
    if updates:
        condition["lastUpdateTime"] = text_of(now)
    if old is None:
        return [*before, condition]
    return [condition if each is old else each for each in before]
