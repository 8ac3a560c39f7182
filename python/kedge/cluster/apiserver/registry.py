# SPDX-License-Identifier: Apache-2.0
"""The one write path: what requests and controllers alike go through to change an object.

Here is what a write changes; ``writes`` carries it out. Objects are plain dicts; what a caller passes in
``create`` and ``update`` is not kept or changed. What bodies must be, subresources and the rules of kinds
are in the modules beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import defaults, names, patches, schema, validation
from kedge.api.keys import ObjectKey
from kedge.api.kinds import Kind, find
from kedge.cluster.apiserver import (
    applying,
    bodies,
    failures,
    signing_requests,
    strategies,
    subresources,
)
from kedge.cluster.apiserver.admission import CREATE, Write, topology_labels
from kedge.cluster.apiserver.allocation import Allocator
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.cluster.apiserver.deletion import DeleteOptions
from kedge.cluster.apiserver.writes import Expected, Writes
from kedge.errors import AlreadyExists, BadRequest, NotFound, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.cluster.apiserver.access import Escalation
    from kedge.cluster.apiserver.admission.webhooks.tunnel import ApiServer
    from kedge.cluster.apiserver.signers import Signers
    from kedge.cluster.apiserver.writes import Change
    from kedge.store import Store

Object = dict[str, Any]

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
        self._writes = Writes(store, self.allocator)

    def guard(self, escalation: Escalation, signers: Signers | None = None) -> None:
        """Has what users give or sign guarded from now on."""
        self._writes.escalation = escalation
        self._writes.signers = signers

    def reach_pods(self, api: ApiServer) -> None:
        """Reaches webhooks in pods through the API server from now on, where no route leads to them."""
        self._writes.admission.reach_pods(api)

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
                strategies.rename(kind, obj, names.generated(prefix))
            try:
                return await self._writes.create(kind, obj, options, first=attempt == 0)
            except AlreadyExists:
                if attempt == attempts - 1:
                    raise
        raise AssertionError("the loop returns or raises")

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
        expected = Expected(metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        if subresource == "status" and not signing_requests.is_one(kind):
            status = obj.get("status", {})
            return await self._write_status(kind, key, lambda _: status, expected, options)
        return await self._writes.modify(
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
        has_plain_status = subresource == "status" and not signing_requests.is_one(kind)
        if has_plain_status and content_type != patches.JSON_PATCH:
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

        if has_plain_status:

            def status(old: Object) -> Object:
                result: Object = change(old).get("status", {})
                return result

            return await self._write_status(kind, key, status, Expected(), options)
        return await self._writes.modify(
            kind, key, change, Expected(), options, subresource=subresource
        )

    async def apply(
        self, key: ObjectKey, config: Object, *, subresource: str = "", options: WriteOptions
    ) -> tuple[Object, bool]:
        """Server-side apply: the object, and whether it is new."""
        return await applying.apply(
            self._writes, _kind(key), key, config, options, subresource=subresource
        )

    async def update_status(self, key: ObjectKey, obj: Object) -> Object:
        """Replaces an object's status."""
        return await self.update(key, obj, subresource="status")

    async def patch_status(
        self, key: ObjectKey, patch: Any, content_type: str = patches.MERGE
    ) -> Object:
        """Changes an object's status; the patch is of the whole object."""
        return await self.patch(key, patch, content_type, subresource="status")

    async def delete(
        self,
        key: ObjectKey,
        options: Object | DeleteOptions | None = None,
        how: WriteOptions = _PLAIN,
    ) -> bool:
        """Deletes an object, or begins to; whether it is gone already."""
        return (await self.remove(key, options, how))[1]

    async def remove(
        self,
        key: ObjectKey,
        options: Object | DeleteOptions | None = None,
        how: WriteOptions = _PLAIN,
    ) -> tuple[Object, bool]:
        """``delete`` that also gives the object, which may stay for finalizers or grace."""
        wanted = (
            options if isinstance(options, DeleteOptions) else DeleteOptions.read(options or {})
        )
        kind = _kind(key)
        return await self._writes.remove(kind, key, wanted, how)

    async def delete_collection(
        self,
        group: str,
        resource: str,
        namespace: str,
        options: DeleteOptions,
        how: WriteOptions = _PLAIN,
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
                    await self.delete(row.key, options, how)
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

        target = {"kind": "Node", "name": node}
        await self.show(key, "binding", {"metadata": {"name": name}, "target": target}, options)
        labels = topology_labels.of_node(self.store, node)

        def change(pod: Object) -> Object:
            bound = subresources.assign(pod, node, annotations or {})
            topology_labels.add(bound, labels)
            return bound

        return await self._writes.change(kind, key, change, Expected(uid), options)

    async def show(
        self, key: ObjectKey, subresource: str, body: Object, options: WriteOptions
    ) -> None:
        """Lets webhooks see what is made through a subresource: a ``Binding`` or an ``Eviction``.

        Raises:
            ApiError: one refuses it, or cannot be asked.
        """
        metadata = body.get("metadata")
        about = metadata if type(metadata) is dict else {}
        given = {**body, "metadata": {**about, "namespace": key.namespace}}
        await self._writes.show(Write(CREATE, _kind(key), key, given, {}, options, subresource))

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

        expected = Expected("", expected_version)
        return await self._writes.modify(kind, key, apply, expected, options, subresource="scale")

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
        expected = Expected(metadata.get("uid") or "", metadata.get("resourceVersion") or "")
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
        self, kind: Kind, key: ObjectKey, change: Change, expected: Expected, options: WriteOptions
    ) -> Object:
        known = schema.struct(kind.definition).fields.get("status")
        if not kind.has_status or known is None or known.struct is None:
            raise failures.not_found(kind, key.name)
        shape = known.struct

        def apply(obj: Object) -> Object:
            status = change(obj)
            bodies.report(schema.decode(shape, status), options, prefix="status.")
            before = obj.get("status", {})
            obj["status"] = status
            defaults.apply_status(kind.group, kind.resource, obj)
            validation.validate_status(kind, obj, before)
            return obj

        return await self._writes.change(kind, key, apply, expected, options, part="status")


def _kind(key: ObjectKey) -> Kind:
    kind = find(key.group, key.resource)
    if kind is None:
        raise NotFound(
            f"the server could not find the requested resource: {key.resource}.{key.group}"
        )
    return kind
