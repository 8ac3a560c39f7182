# SPDX-License-Identifier: Apache-2.0
"""The one write path: what requests and controllers alike go through to change an object.

A write is decode -> prepare -> defaults -> admission -> validate -> one store transaction that expects
the revision read; when somebody else was faster it is decided again on what is there now. Objects
are plain dicts; what a caller passes in ``create`` and ``update`` is not kept or changed.

Every write of an object's own is in ``create``, ``_modify`` or ``_remove``; subresources and the
rules of kinds are in the modules beside this one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import defaults, names, patches, schema, selectors, validation
from kedge.api.keys import ObjectKey
from kedge.api.kinds import Kind, find
from kedge.api.meta import timestamp
from kedge.cluster.apiserver import allocation, bodies, deletion, failures, strategies
from kedge.cluster.apiserver.access import check_cloud
from kedge.cluster.apiserver.admission import Admission
from kedge.cluster.apiserver.allocation import Allocator
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.cluster.apiserver.deletion import DeleteOptions
from kedge.errors import AlreadyExists, BadRequest, Conflict, NotFound, UnsupportedMediaType
from kedge.store import ABSENT, Op, Store, delete, put

if TYPE_CHECKING:
    from kedge.cluster.apiserver.access import Escalation

Object = dict[str, Any]
Change = Callable[[Object], Object]

MAX_ATTEMPTS = 50
"""How often a write without a stated version is decided again before it fails."""
GENERATED_NAME_ATTEMPTS = 8
DEFAULT_SERVICE_CIDR = "10.96.0.0/16"
PAGE = 500


_PLAIN = WriteOptions()


class Registry:
    """Reads and writes objects by the rules of their kinds.

    Args:
        store: the cluster's store.
        service_cidr: the range of cluster IPs.
    """

    def __init__(self, store: Store, service_cidr: str = DEFAULT_SERVICE_CIDR) -> None:
        self.store = store
        self.allocator = Allocator(store, service_cidr)
        self._admission = Admission(store)
        self.escalation: Escalation | None = None
        """Guards roles and bindings of users, where somebody knows who has what."""

    # --- reads

    def get(self, key: ObjectKey) -> Object:
        """The stored object.

        Raises:
            NotFound: there is none.
        """
        found = self.store.get(key)
        if found is None:
            raise failures.not_found(_kind(key), key.name)
        obj: Object = orjson.loads(found.value)
        return obj

    def list(
        self, group: str, resource: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> list[Object]:
        """All objects that match; for small collections."""
        rows = self.store.list(
            group, resource, namespace=namespace, labels=labels, fields=fields
        ).items
        return [orjson.loads(row.value) for row in rows]

    # --- writes

    async def create(self, key: ObjectKey, obj: Object, options: WriteOptions = _PLAIN) -> Object:
        """Stores a new object.

        Args:
            key: what is asked for; the name may be empty when ``generateName`` is set.
            obj: the object; a copy is taken.
            options: how to write.

        Returns:
            The object as stored.
        """
        return await self.create_owned(key, orjson.loads(orjson.dumps(obj)), options)

    async def create_owned(
        self, key: ObjectKey, obj: Object, options: WriteOptions = _PLAIN
    ) -> Object:
        """``create`` for a caller that gives the object away."""
        kind = _kind(key)
        obj = bodies.typed(kind, obj)
        metadata = bodies.metadata_of(obj)
        bodies.decode(kind, obj, options)
        bodies.place(kind, key, metadata)
        if metadata.get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        prefix = "" if metadata.get("name") else metadata.get("generateName", "")
        attempts = GENERATED_NAME_ATTEMPTS if prefix else 1
        for attempt in range(attempts):
            if prefix:
                metadata["name"] = names.generated(prefix)
            try:
                return await self._create(kind, obj, options, first=attempt == 0)
            except AlreadyExists:
                if attempt == attempts - 1:
                    raise
        raise AssertionError("the loop returns or raises")

    async def _create(
        self, kind: Kind, obj: Object, options: WriteOptions, *, first: bool
    ) -> Object:
        if first:
            strategies.prepare_create(kind, obj)
            defaults.apply(kind.group, kind.resource, obj)
        metadata = obj["metadata"]
        key = ObjectKey(
            kind.group, kind.resource, metadata.get("namespace", ""), metadata.get("name", "")
        )
        if first:
            await self._admission.create(kind, key, obj)
        validation.validate(kind, obj)
        self._guard(kind, obj, None, options)
        beside = self.allocator.complete(obj, None) if _is_service(kind) else []
        if options.dry_run:
            if self.store.get(key) is not None:
                raise failures.already_exists(kind, key.name)
            return obj
        try:
            metadata["resourceVersion"] = await self._commit(
                put(key, orjson.dumps(obj), ABSENT), beside
            )
        except AlreadyExists:
            raise failures.already_exists(kind, key.name) from None
        return obj

    async def update(
        self, key: ObjectKey, obj: Object, *, subresource: str = "", options: WriteOptions = _PLAIN
    ) -> Object:
        """Replaces an object, or the part of it that a subresource covers.

        A resourceVersion or uid in the object must be the current one.
        """
        return await self.update_owned(
            key, orjson.loads(orjson.dumps(obj)), subresource=subresource, options=options
        )

    async def update_owned(
        self, key: ObjectKey, obj: Object, *, subresource: str = "", options: WriteOptions = _PLAIN
    ) -> Object:
        """``update`` for a caller that gives the object away."""
        kind = _kind(key)
        obj = bodies.typed(kind, obj)
        metadata = bodies.metadata_of(obj)
        bodies.decode(kind, obj, options)
        bodies.place(kind, key, metadata)
        if metadata.get("name") != key.name:
            message = f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({key.name})"
            raise BadRequest(message)
        body = orjson.dumps(obj)
        expected = _Expected(metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        if subresource == "status":
            status = obj.get("status", {})
            return await self._write_status(kind, key, lambda _: status, expected, options)
        return await self._modify(
            kind, key, lambda _: orjson.loads(body), expected, options, subresource=subresource
        )

    async def patch(
        self,
        key: ObjectKey,
        patch: Any,
        content_type: str = patches.MERGE,
        *,
        subresource: str = "",
        options: WriteOptions = _PLAIN,
    ) -> Object:
        """Changes an object, or the part of it that a subresource covers.

        Args:
            key: the object.
            patch: the patch, parsed or as JSON text.
            content_type: the patch's format.
            subresource: ``status`` or ``finalize``.
            options: how to write.
        """
        kind = _kind(key)
        if content_type not in patches.ACCEPTED:
            raise UnsupportedMediaType(patches.unsupported(content_type))
        body = patch if isinstance(patch, bytes) else orjson.dumps(patch)
        shape = schema.struct(kind.definition)
        if subresource == "status" and content_type != patches.JSON_PATCH:
            return await self._patch_status(kind, key, body, content_type, options)

        def change(old: Object) -> Object:
            version = old["metadata"]["resourceVersion"]
            new = patches.apply(old, bodies.parse(body), content_type, shape)
            if type(new.get("metadata")) is not dict:
                raise BadRequest("metadata: wanted an object")
            bodies.check_version(kind, key, new["metadata"], version)
            bodies.decode(kind, new, options)
            bodies.check_identity(kind, key, new)
            return new

        if subresource == "status":

            def status(old: Object) -> Object:
                result: Object = change(old).get("status", {})
                return result

            return await self._write_status(kind, key, status, _Expected(), options)
        return await self._modify(kind, key, change, _Expected(), options, subresource=subresource)

    async def update_status(self, key: ObjectKey, obj: Object) -> Object:
        """Replaces an object's status."""
        return await self.update(key, obj, subresource="status")

    async def patch_status(
        self, key: ObjectKey, patch: Any, content_type: str = patches.MERGE
    ) -> Object:
        """Changes an object's status; the patch is of the whole object."""
        return await self.patch(key, patch, content_type, subresource="status")

    async def delete(self, key: ObjectKey, options: Object | DeleteOptions | None = None) -> bool:
        """Deletes an object, or begins to; whether it is gone already."""
        return (await self.remove(key, options))[1]

    async def remove(
        self, key: ObjectKey, options: Object | DeleteOptions | None = None
    ) -> tuple[Object, bool]:
        """``delete`` that also gives the object, which may stay for finalizers or grace."""
        wanted = (
            options if isinstance(options, DeleteOptions) else DeleteOptions.read(options or {})
        )
        kind = _kind(key)
        self._admission.delete(kind, key)
        for _ in range(MAX_ATTEMPTS):
            value, revision = self._read(kind, key)
            obj: Object = orjson.loads(value)
            _Expected(wanted.uid, wanted.resource_version).check(kind, key, obj["metadata"])
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

    async def delete_collection(
        self,
        group: str,
        resource: str,
        namespace: str,
        options: DeleteOptions,
        *,
        labels: str = "",
        fields: str = "",
    ) -> int:
        """Deletes all objects that match, a page at a time; how many there were."""
        count, token = 0, ""
        while True:
            page = self.store.list(
                group,
                resource,
                namespace=namespace,
                labels=labels,
                fields=fields,
                limit=PAGE,
                continue_token=token,
            )
            for row in page.items:
                try:
                    await self.delete(row.key, options)
                except NotFound:
                    continue
            count += len(page.items)
            token = page.continue_token
            if not token:
                return count

    async def bind(
        self,
        namespace: str,
        name: str,
        node: str,
        *,
        uid: str = "",
        annotations: dict[str, str] | None = None,
        options: WriteOptions = _PLAIN,
    ) -> Object:
        """Puts a pod on a node.

        Raises:
            Conflict: it is on one already, goes away, or is another pod of that name.
        """
        key = ObjectKey("", "pods", namespace, name)
        kind = _kind(key)

        def change(pod: Object) -> Object:
            spec = pod["spec"]
            if spec.get("nodeName"):
                why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
                raise _binding_conflict(name, why)
            if "deletionTimestamp" in pod["metadata"]:
                raise _binding_conflict(
                    name, f"pod {name} is being deleted, cannot be assigned to a host"
                )
            spec["nodeName"] = node
            if annotations:
                pod["metadata"].setdefault("annotations", {}).update(annotations)
            _set_scheduled(pod)
            return pod

        return await self._loop(kind, key, change, _Expected(uid), options)

    async def scale(
        self,
        key: ObjectKey,
        change: Callable[[Object], int],
        expected_version: str = "",
        options: WriteOptions = _PLAIN,
    ) -> Object:
        """Sets the replicas of a workload to what ``change`` makes of it."""
        kind = _kind(key)

        def apply(obj: Object) -> Object:
            obj.setdefault("spec", {})["replicas"] = change(obj)
            return obj

        return await self._modify(kind, key, apply, _Expected("", expected_version), options)

    # --- how writes are carried out

    def _guard(self, kind: Kind, new: Object, old: Object | None, options: WriteOptions) -> None:
        if options.user is None:
            return
        if old is None:
            check_cloud(kind, new, options.user)
        if self.escalation is not None:
            self.escalation.check(kind, new, old, options.user)

    def _read(self, kind: Kind, key: ObjectKey) -> tuple[bytes, int]:
        found = self.store.get(key)
        if found is None:
            raise failures.not_found(kind, key.name)
        return found.value, found.revision

    async def _modify(
        self,
        kind: Kind,
        key: ObjectKey,
        change: Change,
        expected: _Expected,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> Object:
        """Changes an object with everything a change of the object itself needs."""

        def apply(obj: Object, old: Object) -> Object:
            new = change(obj)
            if subresource == "finalize":
                new = {**old, "spec": new.get("spec", {})}
            elif subresource:
                new = strategies.narrow(subresource, new, old)
            else:
                strategies.prepare_update(kind, new, old)
            defaults.apply(kind.group, kind.resource, new)
            return new

        for _ in range(MAX_ATTEMPTS):
            value, revision = self._read(kind, key)
            old: Object = orjson.loads(value)
            expected.check(kind, key, old["metadata"])
            new = apply(orjson.loads(value), old)
            beside = self.allocator.complete(new, old) if _is_service(kind) else []
            if new == old:
                return old
            strategies.count_generation(kind, new, old)
            validation.validate_update(kind, new, old, subresource)
            self._admission.update(kind, key, new, old)
            self._guard(kind, new, old, options)
            if options.dry_run:
                return new
            if deletion.is_finished(kind, new):
                if await self._remove(kind, key, new, revision):
                    return new
            elif await self._replace(key, new, orjson.dumps(new), revision, beside):
                return new
            if expected.version:
                break
        raise failures.conflict(kind, key.name)

    async def _patch_status(
        self, kind: Kind, key: ObjectKey, body: bytes, content_type: str, options: WriteOptions
    ) -> Object:
        """The hot path: merges the status part of a patch into the stored status, and nothing else."""
        parsed = bodies.parse(body)
        if type(parsed) is not dict:
            raise BadRequest(
                f"error decoding patch: wanted an object, got: {type(parsed).__name__}"
            )
        metadata = parsed.get("metadata") or {}
        if type(metadata) is not dict:
            raise BadRequest("metadata: wanted an object")
        expected = _Expected(metadata.get("uid") or "", metadata.get("resourceVersion") or "")
        known = schema.struct(kind.definition).fields.get("status")
        shape = known.struct if known is not None else None
        fresh = [parsed]

        def change(obj: Object) -> Object:
            part = (fresh.pop() if fresh else orjson.loads(body)).get("status") or {}
            if type(part) is not dict:
                raise BadRequest("status: wanted an object")
            return patches.apply(obj.get("status", {}), part, content_type, shape)

        return await self._write_status(kind, key, change, expected, options)

    async def _write_status(
        self, kind: Kind, key: ObjectKey, change: Change, expected: _Expected, options: WriteOptions
    ) -> Object:
        known = schema.struct(kind.definition).fields.get("status")
        if not kind.has_status or known is None or known.struct is None:
            raise failures.not_found(kind, key.name)
        shape = known.struct

        def apply(obj: Object) -> Object:
            status = change(obj)
            bodies.report(schema.decode(shape, status), options, prefix="status.")
            obj["status"] = status
            validation.validate_status(kind, obj)
            return obj

        return await self._loop(kind, key, apply, expected, options, part="status")

    async def _loop(
        self,
        kind: Kind,
        key: ObjectKey,
        change: Change,
        expected: _Expected,
        options: WriteOptions,
        *,
        part: str = "",
    ) -> Object:
        """Reads, changes and writes back until nobody else was faster; no change writes nothing."""
        for _ in range(MAX_ATTEMPTS):
            value, revision = self._read(kind, key)
            obj: Object = orjson.loads(value)
            expected.check(kind, key, obj["metadata"])
            before = orjson.dumps(obj.get(part)) if part else b""
            obj = change(obj)
            if options.dry_run or (part and orjson.dumps(obj.get(part)) == before):
                return obj
            if await self._replace(key, obj, orjson.dumps(obj), revision):
                return obj
            if expected.version:
                break
        raise failures.conflict(kind, key.name)

    async def _replace(
        self,
        key: ObjectKey,
        obj: Object,
        data: bytes,
        revision: int,
        beside: Sequence[Op] = (),
    ) -> bool:
        try:
            obj["metadata"]["resourceVersion"] = await self._commit(
                put(key, data, revision), beside
            )
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

    async def _commit(self, op: Op, beside: Sequence[Op]) -> str:
        """Writes an object, and what goes with it; its resourceVersion."""
        try:
            revisions = await self.store.commit([op, *beside])
        finally:
            self._admission.written(op.key)
        return str(revisions[0])


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a writer thinks the object is; empty means anything."""

    uid: str = ""
    version: str = ""

    def check(self, kind: Kind, key: ObjectKey, metadata: Object) -> None:
        if self.uid and self.uid != metadata.get("uid"):
            why = f"Precondition failed: UID in precondition: {self.uid}, UID in object meta: {metadata.get('uid')}"
            raise failures.conflict(kind, key.name, why)
        if self.version and self.version != metadata.get("resourceVersion"):
            raise failures.conflict(kind, key.name)


def scale_of(obj: Object) -> Object:
    """The ``Scale`` of a workload."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": obj.get("spec", {}).get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": selectors.text(obj.get("spec", {}).get("selector")),
        },
    }


def _kind(key: ObjectKey) -> Kind:
    kind = find(key.group, key.resource)
    if kind is None:
        raise NotFound(
            f"the server could not find the requested resource: {key.resource}.{key.group}"
        )
    return kind


def _is_service(kind: Kind) -> bool:
    return kind.resource == "services" and not kind.group


def _binding_conflict(name: str, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on pods/binding "{name}": {why}',
        {"name": name, "kind": "pods/binding"},
    )


def _set_scheduled(pod: Object) -> None:
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one.get("type") != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp()})
