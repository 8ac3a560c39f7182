# SPDX-License-Identifier: Apache-2.0
"""Namespaces on their way out: everything in them is deleted, then they are let go.

A pod on a node out of reach keeps its namespace Terminating until the node has reported.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Namespace
    from kedge.store import Event, Listed

FINALIZER = "kubernetes"
PAGE = 500
DELETES = 64
"""Deletions under way at once."""
AGAIN_SECONDS = 15.0
"""A namespace that is not empty yet is looked at again, should an event have been missed."""


class Namespaces:
    """The namespace controller.

    Args:
        client: writes.
        informer: reads, and tells of every event.
    """

    def __init__(self, client: Client, informer: Informer) -> None:
        self._client = client
        self._informer = informer
        self._leaving: set[str] = set()
        self._work: Reconciler[str] = Reconciler("namespaces", self._reconcile, informer)
        informer.namespaces.watch(self._namespace_changed)
        informer.on_event(self._event)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.deleted:
            self._leaving.add(new.name)
            self._work.add(new.name)
        elif new is None and old is not None:
            self._leaving.discard(old.name)

    def _event(self, event: Event) -> None:
        if event.key.namespace in self._leaving and (event.type == "DELETE" or event.created):
            self._work.add(event.key.namespace)

    async def _reconcile(self, name: str) -> float | None:
        namespace = self._informer.namespaces.get("", name)
        if namespace is None or not namespace.deleted:
            return None
        key = ObjectKey("", "namespaces", "", name)
        if namespace.phase != "Terminating":
            await self._client.patch_status(key, {"phase": "Terminating"}, uid=namespace.uid)
        left = False
        for kind in kinds.KINDS:
            if kind.namespaced:
                left |= await self._empty(kind.group, kind.resource, name)
        if left:
            return AGAIN_SECONDS
        await self._client.finalize(key, namespace.uid, FINALIZER)
        return None

    async def _empty(self, group: str, resource: str, namespace: str) -> bool:
        """Deletes what is there of a resource; tells whether anything is left."""
        page = self._informer.store.list(group, resource, namespace=namespace, limit=PAGE)
        if not page.items:
            return False
        slots = asyncio.Semaphore(DELETES)
        async with asyncio.TaskGroup() as work:
            for item in page.items:
                if b'"deletionTimestamp"' not in item.value:
                    work.create_task(self._delete(item, slots))
        page = self._informer.store.list(group, resource, namespace=namespace, limit=1)
        return bool(page.items)

    async def _delete(self, item: Listed, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._client.delete(item.key)
