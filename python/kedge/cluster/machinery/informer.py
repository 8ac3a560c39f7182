# SPDX-License-Identifier: Apache-2.0
"""Keeps the records of this process equal to the store: one watch, one copy, many readers.

The informer watches every resource, so that each revision passes through it: ``caught_up`` can then
tell when everything this process wrote is visible in the caches. It lists after the watch has
begun; versions decide where the two overlap. A watch that fell too far behind is begun anew, and
what vanished meanwhile is dropped from the caches as if its deletion had been seen.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from kedge.cluster.machinery import batch, budgets, records, services, storage
from kedge.cluster.machinery.cache import (
    AttachmentCache,
    BudgetCache,
    Cache,
    JobCache,
    PodCache,
    ServiceCache,
    SliceCache,
    WorkloadCache,
)
from kedge.cluster.machinery.named import Named, named_of
from kedge.errors import Gone

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.store import Event, Store

_log = logging.getLogger(__name__)

PAGE = 500
"""Objects decoded between two turns of the loop while listing."""

EventWatcher = Callable[["Event"], None]


class Informer:
    """The caches of one process.

    Args:
        store: the primary store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pods = PodCache(records.pod_of)
        self.nodes: Cache[records.Node] = Cache(records.node_of)
        self.namespaces: Cache[records.Namespace] = Cache(records.namespace_of)
        self.leases: Cache[records.Lease] = Cache(records.lease_of)
        self.deployments = WorkloadCache(records.workload_of)
        self.replica_sets = WorkloadCache(records.workload_of)
        self.replication_controllers = WorkloadCache(records.replication_controller_of)
        self.stateful_sets = WorkloadCache(records.workload_of)
        self.daemon_sets = WorkloadCache(records.workload_of)
        self.jobs = JobCache(batch.job_of)
        self.cron_jobs = WorkloadCache(records.workload_of)
        self.claims: Cache[storage.Claim] = Cache(storage.claim_of)
        self.volumes: Cache[storage.Volume] = Cache(storage.volume_of)
        self.classes: Cache[storage.StorageClass] = Cache(storage.class_of)
        self.drivers: Cache[storage.Driver] = Cache(storage.driver_of)
        self.attachments = AttachmentCache(storage.attachment_of)
        self.autoscalers: Cache[records.Named] = Cache(records.named_of)
        self.budgets = BudgetCache(budgets.budget_of)
        self.services = ServiceCache(services.service_of)
        self.slices = SliceCache(services.slice_of)
        self.endpoints: Cache[services.Endpoints] = Cache(services.endpoints_of)
        self.signing_requests: Cache[Named] = Cache(named_of)
        self._caches: dict[tuple[str, str], Cache[Any]] = {
            ("", "nodes"): self.nodes,
            ("", "namespaces"): self.namespaces,
            ("certificates.k8s.io", "certificatesigningrequests"): self.signing_requests,
            ("coordination.k8s.io", "leases"): self.leases,
            ("apps", "deployments"): self.deployments,
            ("apps", "replicasets"): self.replica_sets,
            ("apps", "statefulsets"): self.stateful_sets,
            ("", "replicationcontrollers"): self.replication_controllers,
            ("apps", "daemonsets"): self.daemon_sets,
            ("batch", "jobs"): self.jobs,
            ("batch", "cronjobs"): self.cron_jobs,
            ("storage.k8s.io", "storageclasses"): self.classes,
            ("storage.k8s.io", "csidrivers"): self.drivers,
            ("storage.k8s.io", "volumeattachments"): self.attachments,
            ("", "persistentvolumes"): self.volumes,
            ("", "persistentvolumeclaims"): self.claims,
            ("", "pods"): self.pods,
            ("", "services"): self.services,
            ("", "endpoints"): self.endpoints,
            (services.GROUP, services.SLICES): self.slices,
            (budgets.GROUP, budgets.RESOURCE): self.budgets,
            ("autoscaling", "horizontalpodautoscalers"): self.autoscalers,
        }
        self._event_watchers: list[EventWatcher] = []
        self._synced = asyncio.Event()
        self._seen = 0
        self._wanted = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = 0

    def on_event(self, watcher: EventWatcher) -> None:
        """Tells ``watcher`` of every event of every resource, after the caches have taken it in."""
        self._event_watchers.append(watcher)

    async def synced(self) -> None:
        """Waits until the caches hold what the store held at the start."""
        await self._synced.wait()

    def wrote(self) -> None:
        """Notes that this process has written: ``caught_up`` waits for it."""
        self._wanted = max(self._wanted, self.store.revision)

    async def caught_up(self) -> None:
        """Waits until every write noted by ``wrote`` is visible in the caches."""
        if self._seen >= self._wanted:
            return
        future = asyncio.get_running_loop().create_future()
        self._tickets += 1
        heapq.heappush(self._waiting, (self._wanted, self._tickets, future))
        await future

    async def run(self) -> None:
        """Follows the store until cancelled."""
        while True:
            try:
                await self._follow()
            except Gone:
                _log.warning("the informer fell behind the store's history and lists again")

    async def _follow(self) -> None:
        revision = self.store.revision
        watch = self.store.watch([], from_revision=revision)
        try:
            for resource, cache in self._caches.items():
                await self._list(resource, cache)
            self._advance(revision)
            self._synced.set()
            self.store.trim()
            async for batch in watch:
                for event in batch:
                    self._take(event)
                self._advance(batch[-1].revision)
        finally:
            watch.close()

    async def _list(self, resource: tuple[str, str], cache: Cache[Any]) -> None:
        token = ""
        keys: set[records.Key] = set()
        while True:
            page = self.store.list(*resource, limit=PAGE, continue_token=token)
            for item in page.items:
                keys.add((item.key.namespace, item.key.name))
                self._put(cache, item.key, item.value, item.revision)
            token = page.continue_token
            if not token:
                break
            await asyncio.sleep(0)
        cache.keep_only(keys)

    @staticmethod
    def _put(cache: Cache[Any], key: ObjectKey, value: bytes, revision: int) -> None:
        try:
            cache.put(cache.decode(value, revision))
        except msgspec.MsgspecError as error:
            _log.warning("an object cannot be read and is left out key=%s error=%s", key, error)
            cache.remove((key.namespace, key.name), revision)

    def _take(self, event: Event) -> None:
        key = event.key
        cache = self._caches.get((key.group, key.resource))
        if cache is not None:
            if event.type == "PUT":
                self._put(cache, key, event.value, event.revision)
            else:
                cache.remove((key.namespace, key.name), event.revision)
        for watcher in self._event_watchers:
            watcher(event)

    def _advance(self, revision: int) -> None:
        self._seen = max(self._seen, revision)
        while self._waiting and self._waiting[0][0] <= self._seen:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
