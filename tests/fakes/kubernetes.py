# SPDX-License-Identifier: Apache-2.0
"""An API client, a mirror and a hub in memory, with the faces that the cloud role uses.

The API keeps objects with uid and resourceVersion, knows preconditions, merge patches of metadata
and status, and mints tokens; ``fail`` makes the next calls raise. Not here: anything that the real
API server decides.
"""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Call:
    """One request that arrived."""

    verb: str
    key: ObjectKey
    body: Any = None
    subresource: str = ""
    content_type: str = ""


@dataclass
class FakeApi:
    """The objects of an API server and what was asked of it."""

    objects: dict[ObjectKey, dict[str, Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    delay_seconds: float = 0.0
    active: int = 0
    most_active: int = 0
    version: int = 0

    async def _call(self, call: Call) -> None:
        self.calls.append(call)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(self.delay_seconds)
            if self.failures:
                raise self.failures.pop(0)
        finally:
            self.active -= 1

    def _stored(self, key: ObjectKey) -> dict[str, Any]:
        if key not in self.objects:
            raise NotFound(f"{key} not found")
        return self.objects[key]

    def _write(self, key: ObjectKey, obj: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("uid", f"uid-{self.version}")
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = obj
        return copy.deepcopy(obj)

    async def get(self, key: ObjectKey, subresource: str = "") -> dict[str, Any]:
        await self._call(Call("get", key, subresource=subresource))
        return copy.deepcopy(self._stored(key))

    async def list(
        self, group: str, resource: str, namespace: str = "", *, labels: str = ""
    ) -> list[dict[str, Any]]:
        await self._call(Call("list", ObjectKey(group, resource, namespace, "")))
        return [
            copy.deepcopy(obj)
            for key, obj in self.objects.items()
            if (key.group, key.resource, key.namespace) == (group, resource, namespace)
            and (not labels or labels in (obj["metadata"].get("labels") or {}))
        ]

    async def create(
        self, key: ObjectKey, obj: dict[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        await self._call(Call("create", key, obj, subresource))
        if subresource == "token":
            self._stored(key)
            seconds = obj["spec"]["expirationSeconds"]
            status = {"token": f"minted-{len(self.calls)}", "expirationTimestamp": later(seconds)}
            return {**obj, "status": status}
        if key in self.objects:
            raise AlreadyExists(f"{key} exists")
        return self._write(key, copy.deepcopy(obj))

    async def patch(
        self,
        key: ObjectKey,
        patch: dict[str, Any],
        *,
        content_type: str = "application/merge-patch+json",
        subresource: str = "",
    ) -> dict[str, Any]:
        await self._call(Call("patch", key, patch, subresource, content_type))
        current = copy.deepcopy(self._stored(key))
        metadata = patch.get("metadata", {})
        for name in ("uid", "resourceVersion"):
            if metadata.get(name, current["metadata"].get(name)) != current["metadata"].get(name):
                raise Conflict(f"{key}: {name} differs")
        return self._write(key, merge(current, patch))

    async def delete(self, key: ObjectKey, options: dict[str, Any] | None = None) -> dict[str, Any]:
        await self._call(Call("delete", key, options))
        current = self._stored(key)
        for name, wanted in (options or {}).get("preconditions", {}).items():
            if wanted != current["metadata"][name]:
                raise Conflict(f"{key}: {name} differs")
        return self.objects.pop(key)


@dataclass(frozen=True)
class Stored:
    value: bytes
    revision: int = 1


@dataclass(frozen=True)
class Listed:
    key: ObjectKey
    value: bytes
    revision: int = 1


@dataclass(frozen=True)
class Page:
    items: list[Listed]


@dataclass
class FakeMirror:
    """A store of JSON objects that can be watched."""

    objects: dict[ObjectKey, bytes] = field(default_factory=dict)
    watchers: list[asyncio.Queue[Any]] = field(default_factory=list)

    def put(self, key: ObjectKey, obj: dict[str, Any]) -> None:
        self.objects[key] = json.dumps(obj).encode()
        self._tell(key)

    def remove(self, key: ObjectKey) -> None:
        del self.objects[key]
        self._tell(key)

    def _tell(self, key: ObjectKey) -> None:
        for queue in self.watchers:
            queue.put_nowait([Listed(key, b"")])

    def get(self, key: ObjectKey) -> Stored | None:
        return Stored(self.objects[key]) if key in self.objects else None

    def list(self, group: str, resource: str, *, fields: str = "") -> Page:
        node = fields.removeprefix("spec.nodeName=")
        items = [
            Listed(key, value)
            for key, value in self.objects.items()
            if (key.group, key.resource) == (group, resource)
            and (not node or json.loads(value)["spec"].get("nodeName") == node)
        ]
        return Page(items)

    async def commit(self, ops: list[Any]) -> list[int]:
        for op in ops:
            if not op.value:
                self.objects.pop(op.key, None)
            else:
                self.objects[op.key] = op.value
        return []

    def watch(self, resources: list[tuple[str, str]]) -> FakeWatch:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.watchers.append(queue)
        return FakeWatch(queue)


@dataclass
class FakeWatch:
    queue: asyncio.Queue[Any]

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            yield await self.queue.get()

    def close(self) -> None:
        pass


@dataclass
class FakeHub:
    """The cloud's end of links that are not there."""

    acked: list[tuple[int, int]] = field(default_factory=list)
    nacked: list[tuple[int, int, str]] = field(default_factory=list)

    def ack(self, session: int, seqs: list[int]) -> None:
        self.acked += [(session, seq) for seq in seqs]

    def nack(self, session: int, seq: int, reason: str) -> None:
        self.nacked.append((session, seq, reason))


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def later(seconds: float) -> str:
    """A moment from now, as the API writes it."""
    import datetime as dt

    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
