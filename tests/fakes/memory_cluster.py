# SPDX-License-Identifier: Apache-2.0
"""A store and a registry in memory, with the faces of the real ones, for controllers under test.

The store keeps JSON with a resourceVersion per revision, watches in order, and never forgets. The
registry knows just enough of the API: generateName, uids, generations, merge patches, status as a
subresource, resourceVersion and uid preconditions, finalizers, graceful deletion of bound pods.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from dataclasses import dataclass
from typing import Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.times import text_of
from kedge.errors import AlreadyExists, Conflict, NotFound


@dataclass(frozen=True)
class Event:
    type: str
    key: ObjectKey
    revision: int
    value: bytes
    previous: bytes | None
    created: bool


@dataclass(frozen=True)
class Stored:
    value: bytes
    revision: int


@dataclass(frozen=True)
class Listed:
    key: ObjectKey
    value: bytes
    revision: int


@dataclass(frozen=True)
class Page:
    items: list[Listed]
    revision: int
    continue_token: str


class Watch:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> list[Event]:
        batch = [await self.queue.get()]
        while not self.queue.empty():
            batch.append(self.queue.get_nowait())
        return batch

    def close(self) -> None:
        self._store.watches.remove(self)


class MemoryStore:
    def __init__(self) -> None:
        self.revision = 0
        self.objects: dict[ObjectKey, tuple[bytes, int]] = {}
        self.watches: list[Watch] = []

    def list(
        self, group: str, resource: str, *, namespace: str = "", limit: int = 0, continue_token: str = ""
    ) -> Page:
        items = [
            Listed(key, value, revision)
            for key, (value, revision) in self.objects.items()
            if (key.group, key.resource) == (group, resource) and namespace in {"", key.namespace}
        ]
        return Page(items, self.revision, "")

    def get(self, key: ObjectKey) -> Stored | None:
        found = self.objects.get(key)
        return Stored(*found) if found is not None else None

    def owned(self, uid: str) -> list[Listed]:
        return [
            Listed(key, value, revision)
            for key, (value, revision) in self.objects.items()
            if any(
                owner["uid"] == uid
                for owner in json.loads(value)["metadata"].get("ownerReferences") or []
            )
        ]

    def watch(self, resources: list[tuple[str, str]], *, from_revision: int | None = None) -> Watch:
        assert from_revision in {None, self.revision}
        watch = Watch(self)
        self.watches.append(watch)
        return watch

    def put(self, key: ObjectKey, body: dict[str, Any]) -> dict[str, Any]:
        self.revision += 1
        body = json.loads(json.dumps(body))
        body["metadata"]["resourceVersion"] = str(self.revision)
        value = json.dumps(body).encode()
        previous = self.objects.get(key)
        self.objects[key] = (value, self.revision)
        old = previous[0] if previous else None
        self._tell(Event("PUT", key, self.revision, value, old, previous is None))
        return body

    def remove(self, key: ObjectKey) -> None:
        self.revision += 1
        value, _ = self.objects.pop(key)
        self._tell(Event("DELETE", key, self.revision, value, value, False))

    def _tell(self, event: Event) -> None:
        for watch in self.watches:
            watch.queue.put_nowait(event)


def merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


class MemoryRegistry:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self._numbers = itertools.count()

    def get(self, key: ObjectKey) -> dict[str, Any]:
        found = self.store.objects.get(key)
        if found is None:
            raise NotFound(str(key))
        decoded: dict[str, Any] = json.loads(found[0])
        return decoded

    async def create(self, key: ObjectKey, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        metadata = dict(body["metadata"])
        if not metadata.get("name"):
            metadata["name"] = f"{metadata.pop('generateName')}{next(self._numbers):05d}"
        key = key._replace(name=metadata["name"])
        if key in self.store.objects:
            raise AlreadyExists(str(key))
        if key.namespace:
            metadata["namespace"] = key.namespace
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=text_of(1e9 + self.store.revision))
        metadata["generation"] = 1
        if key.resource == "pods":
            body = {**body, "status": {"phase": "Pending"}}
        return self.store.put(key, {**body, "metadata": metadata})

    async def patch(
        self, key: ObjectKey, patch: dict[str, Any], content_type: str = "", *, subresource: str = ""
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        old = self.get(key)
        for field in ("uid", "resourceVersion"):
            wanted = (patch.get("metadata") or {}).get(field)
            if wanted is not None and wanted != old["metadata"][field]:
                raise Conflict(f"{key}: {field} was {old['metadata'][field]}, wanted {wanted}")
        new = merge(old, patch)
        if subresource == "status":
            new = {**old, "status": new.get("status")}
        elif new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if new == old:
            return old
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            if key.resource != "pods" and key.resource != "namespaces":
                self.store.remove(key)
                return new
        return self.store.put(key, new)

    async def update(
        self, key: ObjectKey, body: dict[str, Any], *, subresource: str = ""
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        old = self.get(key)
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise Conflict(f"{key} has changed")
        assert subresource == "finalize"
        new = {**old, "spec": body["spec"]}
        if old["metadata"].get("deletionTimestamp") and not body["spec"]["finalizers"]:
            self.store.remove(key)
            return new
        return self.store.put(key, new)

    async def bind(self, namespace: str, name: str, node: str, *, uid: str = "") -> None:
        await asyncio.sleep(0)
        key = ObjectKey("", "pods", namespace, name)
        pod = self.get(key)
        if pod["spec"].get("nodeName") or (uid and pod["metadata"]["uid"] != uid):
            raise Conflict(f"{key} is bound already")
        pod["spec"]["nodeName"] = node
        self.store.put(key, pod)

    async def delete(self, key: ObjectKey, options: dict[str, Any] | None = None) -> None:
        await asyncio.sleep(0)
        options = options or {}
        body = self.get(key)
        metadata = body["metadata"]
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != metadata["uid"]:
            raise Conflict(f"{key}: uid was {metadata['uid']}, wanted {wanted}")
        finalizers = list(metadata.get("finalizers") or [])
        added = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(
            options.get("propagationPolicy", "")
        )
        if added and added not in finalizers:
            finalizers.append(added)
        graceful = (
            key.resource == "pods"
            and bool(body["spec"].get("nodeName"))
            and options.get("gracePeriodSeconds") != 0
        )
        waits = key.resource == "namespaces" and body["spec"].get("finalizers")
        if not finalizers and not graceful and not waits:
            self.store.remove(key)
            return
        if not metadata.get("deletionTimestamp") or finalizers != (metadata.get("finalizers") or []):
            metadata["deletionTimestamp"] = text_of(2e9)
            metadata["finalizers"] = finalizers
            self.store.put(key, body)
