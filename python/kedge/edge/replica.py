# SPDX-License-Identifier: Apache-2.0
"""The node's store on disk: opened, or set aside when it is damaged, and known to be complete or not.

Complete means that once, since this store was made, the node had all of its view. A marker beside
the store names the store that it speaks of, so a refilled one does not inherit it.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.errors import ConfigError, Corrupt
from kedge.files import write_whole
from kedge.store import Store, set_aside

if TYPE_CHECKING:
    from pathlib import Path

HISTORY = 4096
HISTORY_BYTES = 2 << 20
MAP_BYTES = 16 << 20
SEAL_BYTES = 32

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Replica:
    """An open store and what is known of it.

    Attributes:
        store: the store.
        path: its directory.
        marker: the file that says that it is complete.
        set_aside: where a damaged one was moved to, if one was.
    """

    store: Store
    path: Path
    marker: Path
    set_aside: Path | None = None

    @classmethod
    def open(cls, data: Path, *, durable: bool) -> Replica:
        """Opens the store of a node's directory; a damaged one is moved out of the way.

        Raises:
            ConfigError: the sealing key is not there or not one.
        """
        path, marker, key = data / "store", data / "store.complete", read_seal(data / "node.seal")
        aside = None
        try:
            store = _open(path, key, durable=durable)
        except Corrupt as error:
            aside = set_aside(path)
            _log.error("the store is damaged (%s) and set aside: %s", error, aside)
            store = _open(path, key, durable=durable)
        return cls(store, path, marker, aside)

    def is_complete(self) -> bool:
        """Whether the store has had the node's whole view."""
        try:
            return self.marker.read_text().strip() == str(self.store.store_id)
        except OSError:
            return False

    def mark_complete(self) -> None:
        """Remembers that it has."""
        if self.is_complete():
            return
        write_whole(self.marker, f"{self.store.store_id}\n", 0o644)


def _open(path: Path, key: bytes, *, durable: bool) -> Store:
    return Store.open(
        path,
        mode="replica",
        history=HISTORY,
        history_bytes=HISTORY_BYTES,
        map_size=MAP_BYTES,
        durable=durable,
        seal_key=key,
    )


def read_seal(path: Path) -> bytes:
    """The node's sealing key; a new one is made if there is none.

    Raises:
        ConfigError: it cannot be read or is not a key.
    """
    try:
        if not path.exists():
            write_whole(path, os.urandom(SEAL_BYTES))
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read or made: {error.strerror}") from error
    if len(key) != SEAL_BYTES:
        raise ConfigError(f"{path}: wanted a key of {SEAL_BYTES} bytes: {len(key)}")
    return key
