# SPDX-License-Identifier: Apache-2.0
"""Records of one resource by key, with the indexes that controllers ask for.

Only the informer writes. A watcher is told of each change after it is visible here, with the
record before and after; ``None`` stands for "was not there" and "is gone".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from kedge.cluster.machinery.batch import Job
from kedge.cluster.machinery.budgets import Budget
from kedge.cluster.machinery.records import Key, Pod, Workload
from kedge.cluster.machinery.selectors import labels_match
from kedge.cluster.machinery.services import Service, Slice
from kedge.cluster.machinery.storage import Attachment


class Record(Protocol):
    """What every record has."""

    uid: str
    version: int

    @property
    def key(self) -> Key:
        """Namespace and name."""


R = TypeVar("R", bound=Record)
Watcher = Callable[[R | None, R | None], None]


class Cache(Generic[R]):
    """The records of one resource.

    Args:
        decode: makes a record from stored JSON and its revision.
    """

    def __init__(self, decode: Callable[[bytes, int], R]) -> None:
        self.decode = decode
        self._records: dict[Key, R] = {}
        self._watchers: list[Watcher[R]] = []

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        return iter(self._records.values())

    def get(self, namespace: str, name: str) -> R | None:
        """The record of that name."""
        return self._records.get((namespace, name))

    def watch(self, watcher: Watcher[R]) -> None:
        """Tells ``watcher`` of every change from now on."""
        self._watchers.append(watcher)

    def put(self, record: R) -> None:
        """Takes in a record unless a newer one is held."""
        key = record.key
        old = self._records.get(key)
        if old is not None and old.version >= record.version:
            return
        if old is not None and old.uid != record.uid:
            self.remove(key, record.version)
            old = None
        self._records[key] = record
        self._changed(old, record)

    def remove(self, key: Key, version: int) -> None:
        """Drops the record of ``key`` unless it is newer than ``version``."""
        old = self._records.get(key)
        if old is None or old.version > version:
            return
        del self._records[key]
        self._changed(old, None)

    def keep_only(self, keys: set[Key]) -> None:
        """Drops every record whose key is not in ``keys``: a list has shown that they are gone."""
        for key in [key for key in self._records if key not in keys]:
            self.remove(key, self._records[key].version)

    def _changed(self, old: R | None, new: R | None) -> None:
        self._index(old, new)
        for watcher in self._watchers:
            watcher(old, new)

    def _index(self, old: R | None, new: R | None) -> None:
        """Keeps a subclass's indexes."""


class _Index(Generic[R]):
    """Records by some attribute; empty attributes are not indexed."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[Key, R]] = {}

    def move(self, before: str, after: str, key: Key, record: R | None) -> None:
        if before and before != after:
            group = self._keys.get(before)
            if group is not None:
                group.pop(key, None)
                if not group:
                    del self._keys[before]
        if after and record is not None:
            self._keys.setdefault(after, {})[key] = record

    def of(self, value: str) -> list[R]:
        return list(self._keys.get(value, {}).values())

    def count(self, value: str) -> int:
        return len(self._keys.get(value, ()))


class PodCache(Cache[Pod]):
    """Pods, also by controller, by node, by claim, and those without a controller by namespace."""

    def __init__(self, decode: Callable[[bytes, int], Pod]) -> None:
        super().__init__(decode)
        self._by_owner: _Index[Pod] = _Index()
        self._by_node: _Index[Pod] = _Index()
        self._strays: _Index[Pod] = _Index()
        self._by_namespace: _Index[Pod] = _Index()
        self._by_claim: dict[Key, dict[Key, Pod]] = {}

    def using(self, claim: Key) -> list[Pod]:
        """The pods whose volumes use a claim."""
        return list(self._by_claim.get(claim, {}).values())

    def owned_by(self, uid: str) -> list[Pod]:
        """The pods controlled by the object with that uid."""
        return self._by_owner.of(uid)

    def on_node(self, name: str) -> list[Pod]:
        """The pods bound to that node."""
        return self._by_node.of(name)

    def within(self, namespace: str) -> list[Pod]:
        """The pods of a namespace."""
        return self._by_namespace.of(namespace)

    def strays(self, namespace: str) -> list[Pod]:
        """The pods of a namespace that nothing controls."""
        return self._strays.of(namespace)

    def _index(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        key = pod.key
        self._by_owner.move(_owner_uid(old), _owner_uid(new), key, new)
        self._by_node.move(old.node if old else "", new.node if new else "", key, new)
        self._strays.move(_stray(old), _stray(new), key, new)
        space = pod.namespace
        self._by_namespace.move(space if old else "", space if new else "", key, new)
        if pod.claims:
            self._index_claims(pod, new)

    def _index_claims(self, pod: Pod, new: Pod | None) -> None:
        """A pod's volumes never change."""
        for name in pod.claims:
            claim = (pod.namespace, name)
            users = self._by_claim.setdefault(claim, {})
            if new is not None:
                users[new.key] = new
            else:
                users.pop(pod.key, None)
                if not users:
                    del self._by_claim[claim]


class WorkloadCache(Cache[Workload]):
    """Workloads, also by controller and by namespace."""

    def __init__(self, decode: Callable[[bytes, int], Workload]) -> None:
        super().__init__(decode)
        self._by_owner: _Index[Workload] = _Index()
        self._by_namespace: _Index[Workload] = _Index()

    def owned_by(self, uid: str) -> list[Workload]:
        """The workloads controlled by the object with that uid."""
        return self._by_owner.of(uid)

    def within(self, namespace: str) -> list[Workload]:
        """The workloads of a namespace."""
        return self._by_namespace.of(namespace)

    def _index(self, old: Workload | None, new: Workload | None) -> None:
        workload = new or old
        if workload is None:
            return
        self._by_owner.move(_owner_uid(old), _owner_uid(new), workload.key, new)
        space = workload.namespace
        self._by_namespace.move(space if old else "", space if new else "", workload.key, new)


class ServiceCache(Cache[Service]):
    """Services, also by namespace."""

    def __init__(self, decode: Callable[[bytes, int], Service]) -> None:
        super().__init__(decode)
        self._by_namespace: _Index[Service] = _Index()

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> list[Service]:
        """The Services of a namespace that select those labels."""
        return [one for one in self._by_namespace.of(namespace) if one.selects(labels)]

    def _index(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        if service is not None:
            space = service.namespace
            self._by_namespace.move(space if old else "", space if new else "", service.key, new)


class BudgetCache(Cache[Budget]):
    """PodDisruptionBudgets, also by namespace."""

    def __init__(self, decode: Callable[[bytes, int], Budget]) -> None:
        super().__init__(decode)
        self._by_namespace: _Index[Budget] = _Index()

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> list[Budget]:
        """The budgets of a namespace that select those labels."""
        found = self._by_namespace.of(namespace)
        return [one for one in found if labels_match(one.selector, labels)]

    def _index(self, old: Budget | None, new: Budget | None) -> None:
        budget = new or old
        if budget is not None:
            space = budget.namespace
            self._by_namespace.move(space if old else "", space if new else "", budget.key, new)


class SliceCache(Cache[Slice]):
    """EndpointSlices, also by the Service that they are of."""

    def __init__(self, decode: Callable[[bytes, int], Slice]) -> None:
        super().__init__(decode)
        self._by_service: _Index[Slice] = _Index()

    def of_service(self, namespace: str, name: str) -> list[Slice]:
        """The slices of a Service, whoever manages them."""
        return self._by_service.of(f"{namespace}/{name}")

    def _index(self, old: Slice | None, new: Slice | None) -> None:
        one = new or old
        if one is not None:
            self._by_service.move(_service_of(old), _service_of(new), one.key, new)


class JobCache(Cache[Job]):
    """Jobs, also by controller and by namespace."""

    def __init__(self, decode: Callable[[bytes, int], Job]) -> None:
        super().__init__(decode)
        self._by_owner: _Index[Job] = _Index()
        self._by_namespace: _Index[Job] = _Index()

    def owned_by(self, uid: str) -> list[Job]:
        """The Jobs controlled by the object with that uid."""
        return self._by_owner.of(uid)

    def within(self, namespace: str) -> list[Job]:
        """The Jobs of a namespace."""
        return self._by_namespace.of(namespace)

    def _index(self, old: Job | None, new: Job | None) -> None:
        job = new or old
        if job is None:
            return
        self._by_owner.move(_owner_uid(old), _owner_uid(new), job.key, new)
        space = job.namespace
        self._by_namespace.move(space if old else "", space if new else "", job.key, new)


class AttachmentCache(Cache[Attachment]):
    """Attachments, also by node and by volume."""

    def __init__(self, decode: Callable[[bytes, int], Attachment]) -> None:
        super().__init__(decode)
        self._by_node: _Index[Attachment] = _Index()
        self._by_volume: _Index[Attachment] = _Index()

    def on_node(self, name: str) -> list[Attachment]:
        """The attachments to that node."""
        return self._by_node.of(name)

    def of_volume(self, name: str) -> list[Attachment]:
        """The attachments of that PersistentVolume."""
        return self._by_volume.of(name)

    def _index(self, old: Attachment | None, new: Attachment | None) -> None:
        attachment = new or old
        if attachment is None:
            return
        key = attachment.key
        self._by_node.move(old.node if old else "", new.node if new else "", key, new)
        self._by_volume.move(old.volume if old else "", new.volume if new else "", key, new)


def _owner_uid(record: Pod | Workload | Job | None) -> str:
    return record.owner.uid if record is not None and record.owner is not None else ""


def _service_of(one: Slice | None) -> str:
    return f"{one.namespace}/{one.service}" if one is not None and one.service else ""


def _stray(pod: Pod | None) -> str:
    return pod.namespace if pod is not None and pod.owner is None else ""
