# SPDX-License-Identifier: Apache-2.0
"""ResourceQuotas: what their namespaces use, counted anew when a quota changes and when something goes.

What comes is counted where it is admitted (``kedge.cluster.apiserver.admission.resource_quota``), in the same transaction.
So a count here holds only if nothing was admitted meanwhile: the status is written on the version that was read, and
counted again otherwise.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import amounts, quota, usage
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.errors import Conflict

if TYPE_CHECKING:
    from kedge.api.amounts import Amounts
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod
    from kedge.store import Event

Object = dict[str, Any]

PAGE = 500
GATHER_SECONDS = 0.2
"""Changes that come within this are counted together."""
RESYNC_SECONDS = 300.0
"""How often all is counted anew: a pod counts no more when its grace is over, and nothing tells of that."""
_MAY_SHRINK = frozenset({quota.SERVICES, quota.CLAIMS})


class Quotas:
    """The quota controller.

    Args:
        client: writes.
        informer: reads, and tells of every event.
    """

    def __init__(self, client: Client, informer: Informer) -> None:
        self._client = client
        self._informer = informer
        self._counted: dict[str, dict[str, frozenset[quota.Resource]]] = {}
        self._work: Reconciler[Key] = Reconciler("resourcequotas", self._reconcile, informer)
        informer.on_event(self._event)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._informer.synced()
        for row in self._informer.store.list("", "resourcequotas").items:
            self._learn(row.key, orjson.loads(row.value))
            self._work.add((row.key.namespace, row.key.name))
        await self._work.run()

    def _event(self, event: Event) -> None:
        key = event.key
        if key.resource == "resourcequotas" and not key.group:
            self._quota_changed(event)
        if key.namespace not in self._counted:
            return
        resource = (key.group, key.resource)
        if event.type == "DELETE" or (resource in _MAY_SHRINK and not event.created):
            self._recount(key.namespace, resource)

    def _quota_changed(self, event: Event) -> None:
        key = event.key
        if event.type == "DELETE":
            known = self._counted.get(key.namespace, {})
            known.pop(key.name, None)
            if not known:
                self._counted.pop(key.namespace, None)
            return
        obj = orjson.loads(event.value)
        self._learn(key, obj)
        if (obj.get("spec") or {}).get("hard") != (obj.get("status") or {}).get("hard"):
            self._work.add((key.namespace, key.name))

    def _learn(self, key: ObjectKey, obj: Object) -> None:
        found = {quota.counted_on(name) for name in (obj.get("spec") or {}).get("hard") or {}}
        resources = frozenset(one for one in found if one is not None)
        self._counted.setdefault(key.namespace, {})[key.name] = resources

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is None or new is None or new.namespace not in self._counted:
            return
        if old.finished != new.finished or old.requests != new.requests:
            self._recount(new.namespace, quota.PODS)

    def _recount(self, namespace: str, resource: quota.Resource) -> None:
        for name, resources in self._counted[namespace].items():
            if resource in resources:
                self._work.add_after((namespace, name), GATHER_SECONDS)

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        where = ObjectKey("", "resourcequotas", namespace, name)
        obj = self._client.get(where)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return None
        hard: Amounts = obj.get("spec", {}).get("hard") or {}
        status = obj.get("status") or {}
        used = await self._count(namespace, hard, quota.selected(obj.get("spec") or {}))
        before = amounts.only(status.get("used") or {}, hard)
        wanted = {"hard": hard, "used": before | used}
        if status.get("hard") != wanted["hard"] or status.get("used") != wanted["used"]:
            patch = {part: _replacing(status.get(part) or {}, wanted[part]) for part in wanted}
            version = obj["metadata"]["resourceVersion"]
            try:
                await self._client.patch_status(where, patch, version=version)
            except Conflict:
                return GATHER_SECONDS
        return RESYNC_SECONDS

    async def _count(self, namespace: str, hard: Amounts, scopes: list[Object]) -> Amounts:
        """What a namespace uses of each resource that is limited."""
        total: Amounts = {}
        resources = {quota.counted_on(name) for name in hard}
        for resource in sorted(one for one in resources if one is not None):
            names = quota.names_on(resource, hard)
            here = dict.fromkeys(names, "0")
            token = ""
            while True:
                page = self._informer.store.list(
                    *resource, namespace=namespace, limit=PAGE, continue_token=token
                )
                now = time.time()
                for row in page.items:
                    one = orjson.loads(row.value)
                    if usage.is_within(resource, one, scopes):
                        here = amounts.add(
                            here, amounts.only(usage.usage(resource, one, now), names)
                        )
                token = page.continue_token
                await asyncio.sleep(0)
                if not token:
                    break
            total |= here
        return total


def _replacing(old: Amounts, new: Amounts) -> dict[str, str | None]:
    """The merge patch that makes one map of another."""
    return {**dict.fromkeys(old.keys() - new.keys()), **new}
