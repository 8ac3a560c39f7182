# SPDX-License-Identifier: Apache-2.0
"""Garbage collection by owner references: background, foreground, orphan.

There is no graph in memory. The store indexes dependents by their owner's uid, and an owner is
looked up by name and recognised by uid, so a deletion costs what it touches. An object is looked at
when it appears with owners, when an owner of it has gone, and while it is itself being deleted with
a finalizer that belongs to this controller.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import client as writing
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.records import metadata_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.wire import Metadata, OwnerReference
    from kedge.store import Event

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
PAGE = 500


class Owner(enum.Enum):
    """How an owner stands."""

    SOLID = "solid"
    """It exists."""
    WAITING = "waiting"
    """It exists, and waits in the foreground for its dependents to go."""
    ABSENT = "absent"
    """There is none with that uid."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an object with owners."""

    delete: str = ""
    """The propagation policy to delete it with; empty to keep it."""
    drop: tuple[str, ...] = ()
    """uids of owners to take out of its references."""


def judge(
    owners: Sequence[tuple[OwnerReference, Owner]],
    finalizers: Sequence[str],
    *,
    has_dependents: bool,
) -> Verdict:
    """Decides about an object by how its owners stand. Pure.

    Args:
        owners: its references, each with how the owner stands.
        finalizers: its own.
        has_dependents: whether it owns something itself.
    """
    if not owners:
        return Verdict()
    gone = tuple(reference.uid for reference, how in owners if how is not Owner.SOLID)
    if len(gone) < len(owners):
        return Verdict(drop=gone)
    waited_for = any(how is Owner.WAITING for _, how in owners)
    if ORPHAN in finalizers:
        return Verdict(delete=writing.ORPHAN)
    if FOREGROUND in finalizers or (waited_for and has_dependents):
        return Verdict(delete=writing.FOREGROUND)
    return Verdict(delete=writing.BACKGROUND)


class Garbage:
    """The garbage collector.

    Args:
        client: writes.
        informer: reads, and tells of every event.
    """

    def __init__(self, client: Client, informer: Informer) -> None:
        self._client = client
        self._informer = informer
        self._work: Reconciler[ObjectKey] = Reconciler(
            "garbage", self._reconcile, informer, workers=8
        )
        informer.on_event(self._event)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._informer.synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work.run())
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        """What happened while nobody was here: every object with owners or our finalizers."""
        for kind in kinds.KINDS:
            token = ""
            while True:
                page = self._informer.store.list(
                    kind.group, kind.resource, limit=PAGE, continue_token=token
                )
                for item in page.items:
                    if _concerns_us(item.value):
                        self._work.add(item.key)
                token = page.continue_token
                await asyncio.sleep(0)
                if not token:
                    break
        self._informer.store.trim()

    def _event(self, event: Event) -> None:
        if event.type == "DELETE":
            self._gone(metadata_of(event.previous or event.value), event.key)
        elif b'"deletionTimestamp"' in event.value or _owners_changed(event):
            self._work.add(event.key)

    def _gone(self, metadata: Metadata, key: ObjectKey) -> None:
        for dependent in self._informer.store.owned(metadata.uid):
            self._work.add(dependent.key)
        for reference in metadata.owner_references or ():
            owner = _owner_key(reference, key.namespace)
            if owner is not None:
                self._work.add(owner)

    def _metadata(self, key: ObjectKey) -> Metadata | None:
        stored = self._informer.store.get(key)
        return metadata_of(stored.value) if stored is not None else None

    async def _reconcile(self, key: ObjectKey) -> None:
        metadata = self._metadata(key)
        if metadata is None:
            return
        finalizers = metadata.finalizers or ()
        if metadata.deletion_timestamp is not None:
            if ORPHAN in finalizers:
                await self._orphan(key, metadata)
            elif FOREGROUND in finalizers:
                await self._foreground(key, metadata)
            return
        if not metadata.owner_references:
            return
        owners = [(each, self._stands(each, key)) for each in metadata.owner_references]
        has_dependents = bool(self._informer.store.owned(metadata.uid))
        verdict = judge(owners, finalizers, has_dependents=has_dependents)
        if verdict.delete:
            await self._client.delete(key, uid=metadata.uid, propagation=verdict.delete)
        elif verdict.drop:
            await self._drop(key, metadata.uid, set(verdict.drop))

    def _stands(self, reference: OwnerReference, dependent: ObjectKey) -> Owner:
        key = _owner_key(reference, dependent.namespace)
        if key is None:
            return Owner.SOLID
        owner = self._metadata(key)
        if owner is None or owner.uid != reference.uid:
            return Owner.ABSENT
        if owner.deletion_timestamp is not None and FOREGROUND in (owner.finalizers or ()):
            return Owner.WAITING
        return Owner.SOLID

    async def _foreground(self, key: ObjectKey, metadata: Metadata) -> None:
        """Lets the owner go once nothing that blocks it is left, and the dependents until then."""
        blocked = False
        for dependent in self._informer.store.owned(metadata.uid):
            found = metadata_of(dependent.value)
            blocked |= any(
                each.uid == metadata.uid and bool(each.block_owner_deletion)
                for each in found.owner_references or ()
            )
            if found.deletion_timestamp is None:
                self._work.add(dependent.key)
        if not blocked:
            await self._finish(key, metadata, FOREGROUND)

    async def _orphan(self, key: ObjectKey, metadata: Metadata) -> None:
        for dependent in self._informer.store.owned(metadata.uid):
            uid = metadata_of(dependent.value).uid
            await self._drop(dependent.key, uid, {metadata.uid})
        await self._finish(key, metadata, ORPHAN)

    async def _drop(self, key: ObjectKey, uid: str, owners: set[str]) -> None:
        stored = self._client.get(key)
        if stored is None or stored["metadata"]["uid"] != uid:
            return
        metadata = stored["metadata"]
        references = metadata.get("ownerReferences") or []
        kept = [each for each in references if each["uid"] not in owners]
        if len(kept) != len(references):
            await self._patch(key, metadata, {"ownerReferences": kept or None})

    async def _finish(self, key: ObjectKey, seen: Metadata, finalizer: str) -> None:
        stored = self._client.get(key)
        if stored is None or stored["metadata"]["uid"] != seen.uid:
            return
        metadata = stored["metadata"]
        kept = [each for each in metadata.get("finalizers") or [] if each != finalizer]
        await self._patch(key, metadata, {"finalizers": kept or None})

    async def _patch(
        self, key: ObjectKey, metadata: dict[str, object], change: dict[str, object]
    ) -> None:
        fixed = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        await self._client.patch(key, {"metadata": {**fixed, **change}})


def _concerns_us(value: bytes) -> bool:
    return b'"ownerReferences"' in value or b'"deletionTimestamp"' in value


def _owners_changed(event: Event) -> bool:
    """Whether an object appeared with owners, or got others."""
    if b'"ownerReferences"' not in event.value:
        return False
    if event.previous is None:
        return True
    return _uids(metadata_of(event.value)) != _uids(metadata_of(event.previous))


def _uids(metadata: Metadata) -> Iterable[str]:
    return {each.uid for each in metadata.owner_references or ()}


def _owner_key(reference: OwnerReference, namespace: str) -> ObjectKey | None:
    """The key of an owner; None when it is of a kind that is not served here."""
    kind = kinds.find_kind(reference.api_version, reference.kind)
    if kind is None:
        return None
    return ObjectKey(
        kind.group, kind.resource, namespace if kind.namespaced else "", reference.name
    )
