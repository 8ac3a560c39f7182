# SPDX-License-Identifier: Apache-2.0
"""Reading a store whose owner is stopped, with py-lmdb and nothing of kedge's extension.

For a person who looks into a dead node or cluster: each object's key, revisions and JSON, and which
records fail their checksum. Values sealed with the node's key stay sealed. A store in use is refused,
because its owner holds it alone; ``kedge status`` or the API tell what is in it.
"""

from __future__ import annotations

import fcntl
import json
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lmdb

from kedge.api.keys import ObjectKey
from kedge.ctl.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER_BYTES = 23
"""flags u8, created u64, modified u64, crc32 u32, length of the links u16; little-endian."""
SEALED = 1
MAX_DATABASES = 8
LMDB_0_9 = 0
"""The data format that the store writes, as py-lmdb counts (``lib_version``)."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """One object as it lies in the store.

    Attributes:
        key: its name.
        created: the revision at which it was created.
        modified: the revision of its last change.
        value: its JSON; nothing when it is sealed or damaged.
        problem: why there is no value: ``sealed``, or what is wrong with the record.
    """

    key: ObjectKey
    created: int
    modified: int
    value: Any
    problem: str = ""

    def line(self) -> str:
        """One JSON object on one line."""
        shown: dict[str, Any] = {"key": str(self.key), "revision": self.modified}
        shown |= {"problem": self.problem} if self.problem else {"object": self.value}
        return json.dumps(shown, ensure_ascii=False)


def objects(path: Path, group: str = "", resource: str = "") -> Iterator[Inspected]:
    """The objects in a store's directory, in key order; of one resource, if given.

    Raises:
        Failure: there is no store, it is in use, or LMDB cannot read it.
    """
    start = f"{group}\0{resource}\0".encode() if resource else b""
    with _reading(path) as (transaction, database), transaction.cursor(database) as cursor:
        found = cursor.set_range(start)
        while found:
            key, record = (bytes(part) for part in cursor.item())
            if not key.startswith(start):
                return
            yield inspect(key, record)
            found = cursor.next()


def find(path: Path, key: ObjectKey) -> Inspected | None:
    """One object.

    Raises:
        Failure: there is no store, it is in use, or LMDB cannot read it.
    """
    raw = "\0".join(key).encode()
    with _reading(path) as (transaction, database):
        record = transaction.get(raw, db=database)
        return None if record is None else inspect(raw, bytes(record))


def inspect(key: bytes, record: bytes) -> Inspected:
    """What a record says."""
    parts = key.decode(errors="replace").split("\0")
    name = ObjectKey(*parts) if len(parts) == 4 else ObjectKey("", "?", "", repr(key))
    if len(record) < HEADER_BYTES:
        return Inspected(name, 0, 0, None, f"damaged: {len(record)} bytes, less than a header")
    created, modified = (int.from_bytes(record[at : at + 8], "little") for at in (1, 9))
    stored = int.from_bytes(record[17:21], "little")
    if stored != zlib.crc32(record[21:], zlib.crc32(record[:17], zlib.crc32(key))):
        return Inspected(name, created, modified, None, "damaged: the checksum does not hold")
    if record[0] & SEALED:
        return Inspected(name, created, modified, None, "sealed")
    links = int.from_bytes(record[21:23], "little")
    try:
        value = json.loads(record[HEADER_BYTES + links :])
    except ValueError as error:
        return Inspected(name, created, modified, None, f"damaged: not JSON: {error}")
    return Inspected(name, created, modified, value)


@contextmanager
def _reading(path: Path) -> Iterator[tuple[lmdb.Transaction, Any]]:
    if not (path / "data.mdb").exists():
        hint = "give the directory that holds data.mdb: DIR/cluster/store, DIR/edge/store"
        raise Failure("NoStore", f"no store in {path}", hint)
    with _alone(path):
        try:
            with lmdb.open(
                str(path), readonly=True, lock=False, max_dbs=MAX_DATABASES, lib_version=LMDB_0_9
            ) as environment:
                database = environment.open_db(b"objects", create=False)
                with environment.begin(db=database) as transaction:
                    yield transaction, database
        except lmdb.Error as error:
            what = f"{path}: LMDB cannot read it: {error}"
            raise Failure("StoreCorrupt", what, "set it aside: a node fills a new one") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the store's lock, so that its owner cannot start meanwhile."""
    try:
        with (path / "kedge.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        what = f"{path} is in use by a running kedge"
        raise Failure(
            "StoreInUse", what, "stop it first; or ask it: kedge status, kubectl"
        ) from error
    except OSError as error:
        what = f"{path}: cannot be locked: {error.strerror}"
        raise Failure("NoAccess", what, "run it as root") from error
