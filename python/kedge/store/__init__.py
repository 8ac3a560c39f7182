# SPDX-License-Identifier: Apache-2.0
"""The face of the Rust object store: transactions, lists, watches.

Values are JSON bytes; who needs dicts decodes them. Reads answer at once. Writes go to one Rust
thread that shares an fsync among all that wait: ``await store.commit(...)``, with ``store.run()`` as
a task of the role. Not here: patches and validation (``kedge.cluster.apiserver``), what a node may
see (``kedge.sync``).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from kedge import _core, aio  # noqa: TID251 - this file is the face of the store in _core
from kedge.api.keys import ObjectKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

ANY = -1
"""Expect anything, or nothing."""
PRESENT = -2
"""Expect the object to exist."""
ABSENT = 0
"""Expect the object not to exist."""

SEALED = (
    ("", "secrets"),
    ("kedge.io", "nodetokens"),
    ("kedge.io", "serviceaccounttokens"),
)
"""Resources sealed at rest when a store has a sealing key."""

_PUT, _DELETE, _CHECK = 0, 1, 2


class Op(NamedTuple):
    """One operation of a transaction; made by ``put``, ``delete`` and ``check``."""

    kind: int
    key: ObjectKey
    expect: int
    value: bytes


class Stored(NamedTuple):
    """An object's JSON and the revision of its last change."""

    value: bytes
    revision: int


class Listed(NamedTuple):
    """An object of a list."""

    key: ObjectKey
    value: bytes
    revision: int


class Page(NamedTuple):
    """A list, or one page of it; all pages are from one revision."""

    items: list[Listed]
    revision: int
    continue_token: str


class Event(NamedTuple):
    """One change; ``value`` is empty when the object was removed, ``previous`` is what it was before."""

    type: Literal["PUT", "DELETE"]
    key: ObjectKey
    revision: int
    value: bytes
    previous: bytes | None
    created: bool


def put(key: ObjectKey, value: bytes, expect: int = ANY) -> Op:
    """Sets an object.

    Args:
        key: which.
        value: its JSON, with a ``metadata`` object.
        expect: ``ANY``, ``ABSENT``, ``PRESENT``, or the revision that it must be at.
    """
    return Op(_PUT, key, expect, value)


def delete(key: ObjectKey, expect: int = ANY) -> Op:
    """Removes an object; with ``ANY``, removing nothing is no error."""
    return Op(_DELETE, key, expect, b"")


def check(key: ObjectKey, expect: int) -> Op:
    """Changes nothing, but fails the transaction unless the expectation holds."""
    return Op(_CHECK, key, expect, b"")


class Watch:
    """Changes after a revision, in order, each once, in batches; iterate it once, then close it."""

    def __init__(self, inner: _core.Watch) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        """Yields batches until the watch falls too far behind (``Gone``) or the caller stops."""
        async for batch in aio.batches(self._inner):
            yield [
                Event(kind, ObjectKey(*key), revision, value, previous, created)
                for kind, key, revision, value, previous, created in batch
            ]

    def close(self) -> None:
        """Ends it; a drain afterwards raises ``Closed``."""
        self._inner.close()


class Store:
    """An object store, opened once per process.

    Errors: ``Conflict``, ``AlreadyExists`` and ``NotFound`` for expectations, ``Gone`` for revisions
    older than the history, ``Full`` for a full disk, ``Corrupt`` at opening a damaged file.
    """

    def __init__(self, inner: _core.Store) -> None:
        self.handle = inner
        """The Rust store, for the faces that hand it to other Rust parts."""
        self._waiting: dict[int, asyncio.Future[list[int]]] = {}
        self._ticket = 0

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        mode: Literal["primary", "replica"],
        history: int = 10_000,
        history_bytes: int = 64 << 20,
        history_seconds: float = 0,
        map_size: int = 64 << 20,
        durable: bool = True,
        seal_key: bytes | None = None,
        sealed: Iterable[tuple[str, str]] = SEALED,
    ) -> Self:
        """Opens the store in a directory, making it when it is absent.

        Args:
            path: the directory.
            mode: a primary writes ``metadata.resourceVersion``; a replica leaves the JSON as it came.
            history: the most changes kept for watches and pages that look back.
            history_bytes: the most bytes of them, about.
            history_seconds: how long they are kept at least, and at most twice that; 0 for as long as they fit.
            map_size: the map's first size in bytes; it grows by itself.
            durable: whether a commit waits for the disk.
            seal_key: 32 bytes that seal the ``sealed`` resources at rest.
            sealed: (group, resource) pairs.

        Raises:
            Corrupt: the file was cut or scribbled on.
            Rejected: another process has it open.
        """
        primary = mode == "primary"
        return cls(
            _core.Store(
                str(path),
                primary,
                history,
                history_bytes,
                history_seconds,
                map_size,
                durable,
                seal_key,
                list(sealed),
            )
        )

    async def run(self) -> None:
        """Resolves commits as they become durable; a component of the role's task group."""
        async for batch in aio.batches(self.handle):
            self._settle(batch)

    def _settle(self, batch: list[tuple[int, list[int], Exception | None]]) -> None:
        for ticket, revisions, error in batch:
            future = self._waiting.pop(ticket, None)
            if future is None or future.done():
                continue
            if error is None:
                future.set_result(revisions)
            else:
                future.set_exception(error)

    async def commit(self, ops: Sequence[Op]) -> list[int]:
        """Applies all operations, or none; the revision of each, once they are on the disk."""
        self._ticket += 1
        ticket = self._ticket
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        try:
            self.handle.submit(ticket, list(ops))
            return await future
        finally:
            self._waiting.pop(ticket, None)

    def commit_now(self, ops: Sequence[Op]) -> list[int]:
        """The same, blocking the thread: for start-up, tools and tests."""
        return self.handle.commit_now(list(ops))

    def get(self, key: ObjectKey) -> Stored | None:
        """One object, or none."""
        found = self.handle.get(key)
        return None if found is None else Stored(*found)

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
        at_revision: int = 0,
    ) -> Page:
        """Objects of a resource in key order, with selectors in Kubernetes' grammar.

        Raises:
            Gone: the continue token's revision is older than the history.
            Invalid: a selector or token cannot be parsed.
        """
        items, revision, token = self.handle.list(
            group, resource, namespace, labels, fields, limit, continue_token, at_revision
        )
        return Page(
            [Listed(ObjectKey(*key), value, rev) for key, value, rev in items], revision, token
        )

    def owned(self, uid: str) -> Sequence[Listed]:
        """Objects that name ``uid`` among their owners."""
        return [
            Listed(ObjectKey(*key), value, revision)
            for key, value, revision in self.handle.owned(uid)
        ]

    def watch(
        self,
        resources: Sequence[tuple[str, str]] = (),
        *,
        from_revision: int | None = None,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
    ) -> Watch:
        """Changes of (group, resource) pairs, or of everything, after a revision (now, if not given).

        Raises:
            Gone: the revision is older than the history.
        """
        return Watch(self.handle.watch(list(resources), from_revision, namespace, labels, fields))

    @property
    def revision(self) -> int:
        """The revision of the last durable change."""
        return self.handle.revision

    @property
    def store_id(self) -> int:
        """A random number made with the store."""
        return self.handle.store_id

    def stats(self) -> dict[str, int]:
        """Revision, oldest revision watchable, objects, history entries, bytes of file and map."""
        return dict(self.handle.stats())

    def copy_to(self, descriptor: int) -> None:
        """Writes a copy of this moment into an empty file; blocks the thread, while reads and writes go on.

        Raises:
            Full: the file's disk is full.
        """
        self.handle.copy_to(descriptor)

    def trim(self) -> None:
        """Gives the map's pages back to the kernel's cache, so that they leave this process's memory."""
        self.handle.trim()

    def close(self) -> None:
        """Finishes what was submitted and refuses everything after; again does nothing."""
        self.handle.close()


def renew(path: Path | str, leap: int, least: int) -> tuple[int, int]:
    """Makes a store of the copy of an older one: the same objects, under a history that begins later.

    Args:
        path: its directory, which nobody has open.
        leap: how many revisions to pass over, as clients may know them.
        least: the revision to be at least at.

    Returns:
        The revision of the copy, and the one to go on from.

    Raises:
        Corrupt: its file was cut or scribbled on.
        Invalid: another version of kedge wrote it.
        Rejected: somebody has it open.
    """
    return _core.renew_store(str(path), leap, least)


def set_aside(path: Path | str) -> Path:
    """Renames a damaged store's directory out of the way; where it is now."""
    return Path(_core.set_store_aside(str(path)))
