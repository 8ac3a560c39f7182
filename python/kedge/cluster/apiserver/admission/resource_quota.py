# SPDX-License-Identifier: Apache-2.0
"""ResourceQuota: nothing is made that a namespace's quotas do not allow.

What a write counts for is added to ``status.used`` in the same transaction as the write, which expects the quotas to
be as they were read: two writes at once never exceed a quota, and a crash counts nothing that was not stored. Writes
that a quota counts wait for each other, per namespace, instead of failing at the store. Giving back is
the controller's (``kedge.cluster.controllers.quotas``).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson

from kedge.api import amounts, quota
from kedge.api import usage as counting
from kedge.cluster.apiserver.admission.write import CREATE, UPDATE, Write
from kedge.store import put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kedge.api.amounts import Amounts
    from kedge.api.quota import Resource
    from kedge.store import Listed, Op, Store

Object = dict[str, Any]


class Refused(Exception):  # noqa: N818 - a decision, caught below
    """Why a write may not be."""


class ResourceQuota:
    """Charges writes to quotas.

    Args:
        store: where quotas are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def charge(self, write: Write) -> AsyncIterator[list[Op]]:
        """What to write beside an object; to be committed before this is left.

        Raises:
            Forbidden: a quota is exceeded.
        """
        if not _is_counted(write) or not self._quotas(write):
            yield []
            return
        namespace = write.key.namespace
        turn = self._turns.get(namespace)
        if turn is None:
            turn = self._turns[namespace] = asyncio.Lock()
        async with turn:
            yield self._ops(write)

    def _quotas(self, write: Write) -> list[Listed]:
        return self._store.list("", "resourcequotas", namespace=write.key.namespace).items

    def _ops(self, write: Write) -> list[Op]:
        rows = self._quotas(write)
        found = [orjson.loads(row.value) for row in rows]
        resource = (write.kind.group, write.kind.resource)
        old = write.old if write.operation == UPDATE else None
        try:
            changed = charge(found, resource, write.obj, old, time.time())
        except Refused as why:
            raise write.forbidden(str(why)) from None
        ops = []
        for index, used in changed.items():
            row, one = rows[index], found[index]
            one["status"]["used"] = used
            ops.append(put(row.key, orjson.dumps(one), row.revision))
        return ops


def _is_counted(write: Write) -> bool:
    """Whether a write can count for more than before."""
    if not write.kind.namespaced:
        return False
    resource = (write.kind.group, write.kind.resource)
    if write.operation == CREATE:
        return not write.subresource
    if write.operation != UPDATE:
        return False
    if resource == quota.PODS:
        return write.subresource == "resize"
    return resource in (quota.SERVICES, quota.CLAIMS) and not write.subresource


def charge(
    quotas: Sequence[Object], resource: Resource, new: Object, old: Object | None, now: float
) -> dict[int, Amounts]:
    """What is used afterwards, of the quotas that count a write. Pure.

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
