# SPDX-License-Identifier: Apache-2.0
"""Discovery as files, written by the agent's first step, which may load what it takes to make it.

The agent itself keeps none of it: Rust reads a file when a client asks. ``resources.json`` is the
table of kinds that the MetaServer reads from the store.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kedge.api import discovery
from kedge.api.kinds import KINDS
from kedge.edge.metaserver.kinds import VIEW, WAITING
from kedge.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

JSON = "application/json"
INDEX = "index.json"
RESOURCES = "resources.json"


def write(directory: Path, address: str) -> None:
    """Writes what is not there yet.

    Args:
        directory: made when absent.
        address: where clients reach the server, as ``HOST:PORT``.

    Raises:
        OSError: it cannot be written.
    """
    files = contents(address)
    digest = hashlib.sha256()
    for name, body in files.items():
        digest.update(name.encode() + body)
    stamp, tag = directory / "stamp", digest.hexdigest()
    if stamp.exists() and stamp.read_text("ascii") == tag:
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, body in files.items():
        write_whole(directory / name, body)
    write_whole(stamp, tag)


def contents(address: str) -> dict[str, bytes]:
    """All files by name."""
    files: dict[str, bytes] = {}
    index: list[tuple[str, str, str, str]] = []

    def put(path: str, media_type: str, document: Any) -> None:
        body = _dump(document)
        name = f"{len(index):02d}.json"
        files[name] = body
        index.append((name, path, media_type, hashlib.sha256(body).hexdigest()[:16]))

    for path, document in discovery.documents(address).items():
        put(path, JSON, document)
    for version in discovery.AGGREGATED_VERSIONS:
        media_type = discovery.AGGREGATED.format(version=version)
        put("/api", media_type, discovery.aggregated(core=True, version=version))
        put("/apis", media_type, discovery.aggregated(core=False, version=version))
    served = {*VIEW, *WAITING}
    rows = [asdict(kind) for kind in KINDS if (kind.group, kind.resource) in served]
    files[RESOURCES] = _dump(rows)
    files[INDEX] = _dump(index)
    return files


def _dump(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
