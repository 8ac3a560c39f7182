# SPDX-License-Identifier: Apache-2.0
"""The store's Python face in memory: revisions, compare-and-swap, atomic commits, lists, watches."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge.api.keys import ObjectKey
from kedge.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

ANY, ABSENT, PRESENT = -1, -2, -3


class Stored(NamedTuple):
    value: bytes
    revision: int


class Listed(NamedTuple):
    key: ObjectKey
    value: bytes
    revision: int


class Page(NamedTuple):
    items: list[Listed]
    revision: int
    continue_token: str


class Event(NamedTuple):
    type: str
    key: ObjectKey
    revision: int
    value: bytes
    previous: bytes | None
    created: bool


class Op(NamedTuple):
    verb: str
    key: ObjectKey
    value: bytes
    expect: int


def put(key: ObjectKey, value: bytes, expect: int = ANY) -> Op:
    return Op("put", key, value, expect)


def delete(key: ObjectKey, expect: int = ANY) -> Op:
    return Op("delete", key, b"", expect)


def check(key: ObjectKey, expect: int = ANY) -> Op:
    return Op("check", key, b"", expect)


class Watch:
    def __init__(self, store: Store, resources: Sequence[tuple[str, str]]) -> None:
        self._store, self.resources = store, set(resources)
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


class Store:
    def __init__(self) -> None:
        self.revision = 0
        self.objects: dict[ObjectKey, Stored] = {}
        self.watches: list[Watch] = []
        self.commits = 0

    def get(self, key: ObjectKey) -> Stored | None:
        return self.objects.get(key)

    def list(
        self,
        group: str,
        resource: str,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> Page:
        rows = sorted(
            (Listed(key, *stored) for key, stored in self.objects.items()
             if key[:2] == (group, resource) and namespace in ("", key.namespace)),
        )  # fmt: skip
        wanted = dict(part.split("=") for part in labels.split(",") if part)
        rows = [
            row
            for row in rows
            if wanted.items() <= _labels(row.value).items() and row.key > _token(continue_token)
        ]
        more = bool(limit) and len(rows) > limit
        rows = rows[:limit] if more else rows
        return Page(rows, self.revision, json.dumps(rows[-1].key) if more else "")

    async def commit(self, ops: Sequence[Op]) -> list[int]:
        await asyncio.sleep(0)
        return self.commit_now(ops)

    def commit_now(self, ops: Sequence[Op]) -> list[int]:
        self.commits += 1
        for op in ops:
            self._expect(op)
        return [self._apply(op) for op in ops]

    def watch(
        self, resources: Sequence[tuple[str, str]], from_revision: int | None = None, **_: str
    ) -> Watch:
        watch = Watch(self, resources)
        self.watches.append(watch)
        return watch

    def owned(self, uid: str) -> list[ObjectKey]:
        return [
            key for key, stored in self.objects.items()
            if any(owner["uid"] == uid for owner in json.loads(stored.value)["metadata"].get("ownerReferences", ()))
        ]  # fmt: skip

    def _expect(self, op: Op) -> None:
        stored = self.objects.get(op.key)
        if op.expect == ABSENT and stored is not None:
            raise AlreadyExists(f"{op.key} exists")
        if stored is None and (op.expect == PRESENT or (op.verb == "delete" and op.expect == ANY)):
            raise NotFound(f"{op.key} is not there")
        if op.expect >= 0 and (stored is None or stored.revision != op.expect):
            raise Conflict(f"{op.key} has another revision")

    def _apply(self, op: Op) -> int:
        if op.verb == "check":
            return self.revision
        self.revision += 1
        before = self.objects.get(op.key)
        previous = before.value if before else None
        if op.verb == "delete":
            self.objects.pop(op.key, None)
            self._tell(Event("DELETE", op.key, self.revision, previous or b"", previous, False))
            return self.revision
        body = json.loads(op.value)
        body["metadata"]["resourceVersion"] = str(self.revision)
        value = json.dumps(body).encode()
        self.objects[op.key] = Stored(value, self.revision)
        self._tell(Event("PUT", op.key, self.revision, value, previous, before is None))
        return self.revision

    def _tell(self, event: Event) -> None:
        for watch in self.watches:
            if not watch.resources or event.key[:2] in watch.resources:
                watch.queue.put_nowait(event)


def _labels(value: bytes) -> dict[str, Any]:
    labels: dict[str, Any] = json.loads(value)["metadata"].get("labels", {})
    return labels


def _token(text: str) -> ObjectKey:
    return ObjectKey(*json.loads(text)) if text else ObjectKey("", "", "", "")
