# SPDX-License-Identifier: Apache-2.0
"""What a write adds to the quotas of its namespace, or why a quota does not allow it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import amounts, quota
from kedge.api import usage as counting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.amounts import Amounts
    from kedge.api.quota import Resource

Object = dict[str, Any]


class Refused(Exception):  # noqa: N818 - a decision, caught where writes are charged
    """Why a write may not be."""


def charge(
    quotas: Sequence[Object], resource: Resource, new: Object, old: Object | None, now: float
) -> dict[int, Amounts]:
    """What is used afterwards, of the quotas that count a write.

    Args:
        quotas: of the namespace.
        resource: the object's kind.
        new: the object as it is to be.
        old: as it was, on an update.
        now: seconds since 1970.

    Raises:
        Refused: a quota does not allow it.
    """
    counting_it = {}
    for index, one in enumerate(quotas):
        names = quota.names_on(resource, hard(one))
        if names and counting.is_within(resource, new, quota.selected(one.get("spec") or {})):
            _check_stated(one, resource, new, names)
            counting_it[index] = names
    if not counting_it:
        return {}
    total = counting.usage(resource, new, now)
    negative = sorted(name for name, amount in total.items() if amount.startswith("-"))
    if negative:
        raise Refused(f"quota usage is negative for resource(s): {','.join(negative)}")
    more = total if old is None else amounts.growth(total, counting.usage(resource, old, now))
    changed = {}
    for index, names in counting_it.items():
        one = quotas[index]
        was_in = old is not None and counting.is_within(
            resource, old, quota.selected(one.get("spec") or {})
        )
        asked = amounts.only(more if was_in or old is None else total, names)
        asked = {name: amount for name, amount in asked.items() if amount != "0"}
        if asked:
            changed[index] = _used(one, asked)
    return changed


def hard(one: Object) -> Amounts:
    """What a quota limits, as far as its usage has been counted."""
    found: Amounts = (one.get("status") or {}).get("hard") or {}
    return found


def _check_stated(one: Object, resource: Resource, obj: Object, names: list[str]) -> None:
    name = one["metadata"]["name"]
    lacking = counting.missing(resource, obj, names)
    if lacking:
        raise Refused(f"failed quota: {name}: {lacking}")
    used = (one.get("status") or {}).get("used") or {}
    if any(each not in used for each in names):
        raise Refused(f"status unknown for quota: {name}, resources: {','.join(sorted(names))}")


def _used(one: Object, asked: Amounts) -> Amounts:
    used: Amounts = (one.get("status") or {}).get("used") or {}
    after = amounts.add(used, asked)
    over = amounts.exceeding(amounts.only(after, asked), hard(one))
    if over:
        requested, before, limited = (_shown(part, over) for part in (asked, used, hard(one)))
        raise Refused(
            f"exceeded quota: {one['metadata']['name']}, requested: {requested}, used: {before}, limited: {limited}"
        )
    return after


def _shown(part: Amounts, names: list[str]) -> str:
    return ",".join(f"{name}={part[name]}" for name in names if name in part)
