# SPDX-License-Identifier: Apache-2.0
"""ResourceQuota: nothing is made that a namespace's quotas do not allow.

What a write counts for is added to ``status.used`` in the same transaction as the write, which expects the quotas to
be as they were read: two writes at once never exceed a quota, and a crash counts nothing that was not stored. Writes
that quotas of one namespace count are stored together, as many as wait, so that they share a disk's fsync too.
Giving back is the controller's (``kedge.cluster.controllers.quotas``).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson

from kedge.api import quota
from kedge.cluster.apiserver import failures
from kedge.cluster.apiserver.admission.charges import Refused, charge
from kedge.cluster.apiserver.admission.write import CREATE, UPDATE, Write
from kedge.errors import AlreadyExists, Conflict, NotFound
from kedge.store import put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.keys import ObjectKey
    from kedge.store import Listed, Op, Store

Object = dict[str, Any]

MAX_TOGETHER = 64
"""Writes in one transaction."""
MAX_ATTEMPTS = 50
"""How often a write is charged again because quotas changed meanwhile."""
MAX_KNOWN = 10_000
"""Namespaces of which is known whether they have quotas."""
_RACED = (AlreadyExists, Conflict, NotFound)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A write, what to store for it, and who waits for the revisions."""

    write: Write
    ops: Sequence[Op]
    stored: asyncio.Future[list[int]]

    def fail(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


class _Turn:
    """Writes of one namespace that wait; whoever has the lock stores them all."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting: deque[_Waiting] = deque()

    def take(self) -> list[_Waiting]:
        """The first of them, no longer waiting."""
        return [self.waiting.popleft() for _ in range(min(len(self.waiting), MAX_TOGETHER))]


class ResourceQuota:
    """Charges writes to quotas, and stores them.

    Args:
        store: where quotas are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, bool] = {}
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()

    def written(self, key: ObjectKey) -> None:
        """Takes note that an object was written or removed."""
        if key.resource == "resourcequotas" and not key.group:
            self._known.pop(key.namespace, None)

    def check(self, write: Write) -> None:
        """Decides without storing anything.

        Raises:
            Forbidden: a quota is exceeded.
        """
        if self._counts(write):
            try:
                _charge(write, [orjson.loads(row.value) for row in self._quotas(write)])
            except Refused as why:
                raise write.forbidden(str(why)) from None

    async def commit(self, write: Write, ops: Sequence[Op]) -> list[int]:
        """Stores a write, and what it counts for; the revision of each operation.

        Raises:
            Forbidden: a quota is exceeded.
            StoreError: as the store does.
        """
        if not self._counts(write):
            return await self._store.commit(ops)
        one = _Waiting(write, ops, asyncio.get_running_loop().create_future())
        turn = self._turns.get(write.key.namespace)
        if turn is None:
            turn = self._turns[write.key.namespace] = _Turn()
        turn.waiting.append(one)
        try:
            async with turn.lock:
                if one in turn.waiting:
                    # what was begun is ended, also for the others, if this caller goes away
                    await asyncio.shield(self._store_all(turn.take()))
        finally:
            if one in turn.waiting:
                turn.waiting.remove(one)
        return await one.stored

    def _counts(self, write: Write) -> bool:
        if not _is_counted(write):
            return False
        namespace = write.key.namespace
        if namespace not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[namespace] = bool(self._quotas(write))
        return self._known[namespace]

    def _quotas(self, write: Write) -> list[Listed]:
        return self._store.list("", "resourcequotas", namespace=write.key.namespace).items

    async def _store_all(self, together: list[_Waiting]) -> None:
        """Stores writes in one transaction, or each by itself if one of them cannot be; never fails itself."""
        try:
            for _ in range(MAX_ATTEMPTS):
                if await self._try(together):
                    return
                await asyncio.sleep(0)
        except _RACED as error:
            if len(together) == 1:
                together[0].fail(error)
                return
            for one in together:
                await self._store_all([one])
            return
        except Exception as error:
            for one in together:
                one.fail(error)
            return
        for one in together:
            one.fail(failures.conflict(one.write.kind, one.write.key.name))

    async def _try(self, together: list[_Waiting]) -> bool:
        """Charges writes and stores them; not when a single one of them met quotas that changed meanwhile."""
        rows = self._quotas(together[0].write)
        found = [orjson.loads(row.value) for row in rows]
        admitted, refused, changed = [], [], set()
        for one in together:
            try:
                changed |= _charge(one.write, found)
                admitted.append(one)
            except Refused as why:
                refused.append((one, str(why)))
        charges = [put(rows[at].key, orjson.dumps(found[at]), rows[at].revision) for at in changed]
        try:
            await self._settle(admitted, charges)
        except _RACED:
            now = self._quotas(together[0].write)
            if len(together) == 1 and [row.revision for row in rows] != [
                row.revision for row in now
            ]:
                return False
            raise
        for one, text in refused:
            one.fail(one.write.forbidden(text))
        return True

    async def _settle(self, admitted: list[_Waiting], charges: list[Op]) -> None:
        """Stores what is admitted, and tells who waits."""
        if not admitted:
            return
        ops = [op for one in admitted for op in one.ops]
        revisions = await self._store.commit([*ops, *charges])
        at = 0
        for one in admitted:
            if not one.stored.done():
                one.stored.set_result(revisions[at : at + len(one.ops)])
            at += len(one.ops)


def _charge(write: Write, quotas: list[Object]) -> set[int]:
    """Adds what a write counts for to the quotas; which of them changed.

    Raises:
        Refused: a quota is exceeded.
    """
    resource = (write.kind.group, write.kind.resource)
    old = write.old if write.operation == UPDATE else None
    changed = charge(quotas, resource, write.obj, old, time.time())
    for index, used in changed.items():
        quotas[index]["status"]["used"] = used
    return set(changed)


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
