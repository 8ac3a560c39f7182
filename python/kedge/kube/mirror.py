# SPDX-License-Identifier: Apache-2.0
"""The face of the mirror: a replica store kept equal to what an API server has.

Listing, watching and writing are in Rust, a task per resource. Here it is known which resources are
synced and what went wrong last; the objects themselves are read through ``kedge.store``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from kedge import _core, metrics  # noqa: TID251 - this file is the face of _core.Mirror
from kedge.aio import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.kube.client import KubeClient
    from kedge.runtime import Runtime
    from kedge.store import Store

logger = logging.getLogger(__name__)


class MirrorRow(NamedTuple):
    """A resource to mirror; at most one row for each. An optional one may be unknown to the server."""

    group: str
    resource: str
    version: str = "v1"
    fields: str = ""
    optional: bool = False

    @property
    def label(self) -> str:
        """``pods``, or ``deployments.apps``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


class Mirror:
    """Keeps a store equal to a server's objects from its construction on.

    Args:
        runtime: the process's runtime.
        client: of the server.
        store: a replica store; all objects of the rows' resources in it belong to the mirror.
        rows: what to mirror.
    """

    def __init__(
        self, runtime: Runtime, client: KubeClient, store: Store, rows: Sequence[MirrorRow]
    ) -> None:
        flat = [(row.group, row.version, row.resource, row.fields, row.optional) for row in rows]
        self._mirror = _core.Mirror(runtime, client.handle, store.handle, flat)
        self._missing = {row.label for row in rows}
        self._failing: set[str] = set()
        self._synced = asyncio.Event()

    async def run(self) -> None:
        """Follows what happens until cancelled; mirroring goes on until ``close``."""
        async for batch in batches(self._mirror):
            for resource, what, detail in batch:
                self._note(resource, what, detail)

    def _note(self, resource: str, what: str, detail: str) -> None:
        metrics.count(f"kedge_mirror_{what}_total", resource=resource)
        if what == "failed":
            level = logging.DEBUG if resource in self._failing else logging.WARNING
            self._failing.add(resource)
            logger.log(level, "mirror of %s failed, trying again: %s", resource, detail)
            return
        self._failing.discard(resource)
        self._missing.discard(resource)
        logger.info("mirror of %s is %s", resource, what)
        if not self._missing:
            self._synced.set()

    async def synced(self) -> None:
        """Waits until each resource was listed once since this process started."""
        await self._synced.wait()

    def close(self) -> None:
        """Stops mirroring; the store keeps what it has."""
        self._mirror.close()
