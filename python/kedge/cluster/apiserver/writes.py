# SPDX-License-Identifier: Apache-2.0
"""How a write is carried out, whatever it changes.

It is decided on what is stored, and again when somebody else was faster: prepare -> defaults -> admit ->
validate (fields, then admission) -> one store transaction that expects the revision read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import defaults, validation
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver import (
    allocation,
    deletion,
    failures,
    managing,
    service_fields,
    signing_requests,
    strategies,
)
from kedge.cluster.apiserver.access import check_cloud
from kedge.cluster.apiserver.admission import CREATE, DELETE, UPDATE, Admission, Write
from kedge.cluster.apiserver.admission.resource_quota import ResourceQuota
from kedge.errors import AlreadyExists, Conflict, NotFound
from kedge.store import ABSENT, Op, delete, put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.access import Escalation
    from kedge.cluster.apiserver.allocation import Allocator
    from kedge.cluster.apiserver.bodies import WriteOptions
    from kedge.cluster.apiserver.deletion import DeleteOptions
    from kedge.cluster.apiserver.signers import Signers
    from kedge.store import Store

Object = dict[str, Any]
Change = Callable[[Object], Object]

MAX_ATTEMPTS = 50
"""How often a write without a stated version is decided again before it fails."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a writer thinks the object is; empty means anything."""

    uid: str = ""
    version: str = ""

    def check(self, kind: Kind, key: ObjectKey, metadata: Object) -> None:
        """Holds it against what is stored.

        Raises:
            Conflict: it is another object, or has changed.
        """
        if self.uid and self.uid != metadata.get("uid"):
            why = f"Precondition failed: UID in precondition: {self.uid}, UID in object meta: {metadata.get('uid')}"
            raise failures.conflict(kind, key.name, why)
        if self.version and self.version != metadata.get("resourceVersion"):
            raise failures.conflict(kind, key.name)


class Writes:
    """Creates, changes and removes objects.

    Args:
        store: the cluster's store.
        allocator: gives Services their addresses.
    """

    def __init__(self, store: Store, allocator: Allocator) -> None:
        self._store = store
        self._allocator = allocator
        self.admission = Admission(store)
        self._quota = ResourceQuota(store)
        self.escalation: Escalation | None = None
        """Guards roles and bindings of users, where somebody knows who has what."""
        self.signers: Signers | None = None
        """The same for what is done in the name of signers."""

    async def create(
        self, kind: Kind, obj: Object, options: WriteOptions, *, first: bool, owned: bool = False
    ) -> Object:
        """Stores a new object.

        Args:
            kind: the object's kind.
            obj: the object.
            options: how to write.
            first: unless only its generated name is another one than before.
            owned: whether its fields have their owners already.
        """
        if first:
            strategies.prepare_create(kind, obj)
            defaults.apply(kind.group, kind.resource, obj)
            if not owned:
                managing.created(kind, obj, options)
            if signing_requests.is_one(kind):
                signing_requests.name_requester(obj, options.user, self._store)
            strategies.complete_create(kind, obj)
        metadata = obj["metadata"]
        key = ObjectKey(
            kind.group, kind.resource, metadata.get("namespace", ""), metadata.get("name", "")
        )
        write = Write(CREATE, kind, key, obj, {}, options)
        if first:
            await self.admission.admit(write)
        given = orjson.dumps(obj) if _is_service(kind) else b""
        beside = self._allocate(obj, None, options) if given else []
        validation.validate(
            kind, obj, signing_requests.verify if signing_requests.is_one(kind) else None
        )
        strategies.canonicalize(kind, obj)
        if options.user is not None:
            options.warnings.extend(strategies.warnings(kind, obj))
        self._guard(kind, obj, None, options)
        await self.admission.validate(write)
        if not await self._insert(write, beside):
            return await self.create(kind, orjson.loads(given), options, first=False)
        return obj

    async def _insert(self, write: Write, beside: Sequence[Op]) -> bool:
        """Stores a new object; whether what goes with it was still free: Services may race for an address or a port."""
        kind, key = write.kind, write.key
        if write.options.dry_run:
            self._quota.check(write)
            if self._store.get(key) is not None:
                raise failures.already_exists(kind, key.name)
            return True
        op = put(key, orjson.dumps(write.obj), ABSENT)
        try:
            version = await self._commit(op, beside, write)
        except AlreadyExists:
            if not beside or self._store.get(key) is not None:
                raise failures.already_exists(kind, key.name) from None
            return False
        write.obj["metadata"]["resourceVersion"] = version
        return True

    async def remove(
        self, kind: Kind, key: ObjectKey, wanted: DeleteOptions, options: WriteOptions
    ) -> tuple[Object, bool]:
        """Deletes an object, or begins to; the object, and whether it is gone."""
        if wanted.dry_run:
            options = replace(options, dry_run=True)
        for _ in range(MAX_ATTEMPTS):
            value, revision = self._read(kind, key)
            obj: Object = orjson.loads(value)
            Expected(wanted.uid, wanted.resource_version).check(kind, key, obj["metadata"])
            write = Write(DELETE, kind, key, {}, obj, options)
            await self.admission.admit(write)
            await self.admission.validate(write)
            before = orjson.dumps(obj)
            gone = deletion.begin(kind, obj, wanted, time.time())
            if wanted.dry_run:
                return obj, gone
            if gone:
                if await self._remove(kind, key, obj, revision):
                    return obj, True
                continue
            data = orjson.dumps(obj)
            if data == before or await self._replace(key, obj, data, revision):
                return obj, False
        raise failures.conflict(kind, key.name)

    async def modify(
        self,
        kind: Kind,
        key: ObjectKey,
        change: Change,
        expected: Expected,
        options: WriteOptions,
        *,
        subresource: str = "",
        owned: bool = False,
    ) -> Object:
        """Changes an object, with everything that a change of the object itself needs.

        Args:
            kind: the object's kind.
            key: the object.
            change: what makes the new object of the stored one.
            expected: what the writer thinks the object is.
            options: how to write.
            subresource: what it is written through.
            owned: whether ``change`` sets the owners of fields itself.
        """

        def apply(obj: Object, old: Object) -> Object:
            new = change(obj)
            if subresource and signing_requests.is_one(kind):
                new = signing_requests.narrow(subresource, new, old)
            else:
                new = strategies.narrow(subresource, new, old)
            fill = defaults.apply_status if subresource == "status" else defaults.apply
            fill(kind.group, kind.resource, new)
            if not owned:
                managing.updated(kind, new, old, options, subresource)
            if subresource in ("", "scale"):
                strategies.prepare_update(kind, new, old)
            return new

        for _ in range(MAX_ATTEMPTS):
            value, revision = self._read(kind, key)
            old: Object = orjson.loads(value)
            expected.check(kind, key, old["metadata"])
            new = apply(orjson.loads(value), old)
            beside = self._allocate(new, old, options) if _is_service(kind) else []
            write = Write(UPDATE, kind, key, new, old, options, subresource)
            await self.admission.admit(write)
            if new == old:
                return old
            _check(kind, new, old, subresource)
            strategies.canonicalize(kind, new)
            self._guard(kind, new, old, options, subresource)
            await self.admission.validate(write)
            if options.dry_run:
                self._quota.check(write)
                return new
            if deletion.is_finished(kind, new):
                if await self._remove(kind, key, new, revision):
                    return new
            elif await self._replace(
                key, new, orjson.dumps(new), revision, beside=beside, write=write
            ):
                return new
            if expected.version:
                break
        raise failures.conflict(kind, key.name)

    async def change(
        self,
        kind: Kind,
        key: ObjectKey,
        change: Change,
        expected: Expected,
        options: WriteOptions,
        *,
        part: str = "",
    ) -> Object:
        """Changes a part that has rules of its own, and nothing else; no change writes nothing."""
        for _ in range(MAX_ATTEMPTS):
            value, revision = self._read(kind, key)
            obj: Object = orjson.loads(value)
            expected.check(kind, key, obj["metadata"])
            before = orjson.dumps(obj.get(part)) if part else b""
            obj = change(obj)
            if part and orjson.dumps(obj.get(part)) != before:
                managing.status_written(kind, obj, orjson.loads(before), options)
            if part == "status":
                await self.show(Write(UPDATE, kind, key, obj, {}, options, part), value)
            if options.dry_run or (part and orjson.dumps(obj.get(part)) == before):
                return obj
            if await self._replace(key, obj, orjson.dumps(obj), revision):
                return obj
            if expected.version:
                break
        raise failures.conflict(kind, key.name)

    async def show(self, write: Write, before: bytes = b"") -> None:
        """Lets admission see a change of a status, or what is made through a subresource, where somebody wants to.

        Args:
            write: the change.
            before: the object as it was stored, of a change.
        """
        if self.admission.watches(write):
            write.old = orjson.loads(before) if before else {}
            await self.admission.admit(write)
            await self.admission.validate(write)

    def exists(self, key: ObjectKey) -> bool:
        """Whether there is such an object."""
        return self._store.get(key) is not None

    def check_create(self, kind: Kind, key: ObjectKey, options: WriteOptions) -> None:
        """Whether who applies something that does not exist may make it.

        Raises:
            Forbidden: not.
        """
        if self.escalation is not None and options.user is not None:
            self.escalation.check_create(kind, key, options.user)

    def _allocate(self, service: Object, old: Object | None, options: WriteOptions) -> list[Op]:
        """Gives a Service its addresses and ports; what to write for them."""
        beside = self._allocator.complete(service, old)
        texts = service_fields.warnings(service)
        options.warnings.extend(text for text in texts if text not in options.warnings)
        return beside

    def _guard(
        self,
        kind: Kind,
        new: Object,
        old: Object | None,
        options: WriteOptions,
        subresource: str = "",
    ) -> None:
        if options.user is None:
            return
        if old is None:
            check_cloud(kind, new, options.user)
        if self.escalation is not None:
            self.escalation.check(kind, new, old, options.user)
        if self.signers is not None:
            self.signers.check(kind, new, old, options.user, subresource)

    def _read(self, kind: Kind, key: ObjectKey) -> tuple[bytes, int]:
        found = self._store.get(key)
        if found is None:
            raise failures.not_found(kind, key.name)
        return found.value, found.revision

    async def _replace(
        self,
        key: ObjectKey,
        obj: Object,
        data: bytes,
        revision: int,
        *,
        beside: Sequence[Op] = (),
        write: Write | None = None,
    ) -> bool:
        try:
            version = await self._commit(put(key, data, revision), beside, write)
            obj["metadata"]["resourceVersion"] = version
        except (Conflict, AlreadyExists, NotFound):
            await asyncio.sleep(0)
            return False
        return True

    async def _remove(self, kind: Kind, key: ObjectKey, obj: Object, revision: int) -> bool:
        beside = allocation.release(obj) if _is_service(kind) else []
        try:
            await self._commit(delete(key, revision), beside)
        except (Conflict, NotFound):
            await asyncio.sleep(0)
            return False
        return True

    async def _commit(self, op: Op, beside: Sequence[Op], write: Write | None = None) -> str:
        """Writes an object, and what goes with it; its resourceVersion.

        Args:
            op: of the object.
            beside: what goes with it.
            write: what quotas may count.
        """
        ops = [op, *beside]
        try:
            if write is None:
                revisions = await self._store.commit(ops)
            else:
                revisions = await self._quota.commit(write, ops)
        finally:
            self.admission.written(op.key)
            self._quota.written(op.key)
        return str(revisions[0])


def _check(kind: Kind, new: Object, old: Object, subresource: str) -> None:
    if subresource == "status" and not signing_requests.is_one(kind):
        validation.validate_status(kind, new)
        return
    strategies.count_generation(kind, new, old)
    validation.validate_update(kind, new, old, "" if subresource == "scale" else subresource)


def _is_service(kind: Kind) -> bool:
    return kind.resource == "services" and not kind.group
