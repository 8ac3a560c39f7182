# SPDX-License-Identifier: Apache-2.0
"""ControllerRevisions: the templates that a StatefulSet or DaemonSet has had.

A revision holds a patch that puts its template back, so that ``kubectl rollout undo`` needs nothing
else. The present template's revision is found by comparing what they hold; going back to an older
template gives its revision the highest number again. ``choose`` and ``forgettable`` decide, purely;
``History`` acts. Revisions are few and read seldom: they are read from the store, not held.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import selectors
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.owners import adopt, controller_reference
from kedge.errors import AlreadyExists, Conflict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kedge.api.kinds import Kind
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.records import Workload
    from kedge.cluster.machinery.wire import Object
    from kedge.store import Listed, Store

RESOURCE = ("apps", "controllerrevisions")
POD_LABEL = "controller-revision-hash"
"""On pods: which revision they were made from."""
PAGE = 500
MAX_COLLISIONS = 10
"""Names tried in a row before the rest waits for the next turn."""
_NAME_PREFIX = 223


@dataclass(frozen=True, slots=True)
class Revision:
    """One ControllerRevision."""

    name: str
    uid: str
    number: int
    created: str
    labels: dict[str, str]
    data: Object

    @classmethod
    def of(cls, stored: Object) -> Revision:
        """Reads a stored one."""
        metadata = stored["metadata"]
        return cls(
            metadata["name"],
            metadata["uid"],
            stored.get("revision") or 0,
            metadata.get("creationTimestamp") or "",
            metadata.get("labels") or {},
            stored.get("data") or {},
        )

    @property
    def template(self) -> Object:
        """The pod template that it holds."""
        template = (self.data.get("spec") or {}).get("template") or {}
        return {field: value for field, value in template.items() if field != "$patch"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which revision is the present template's."""

    present: Revision | None
    """None when one has to be made."""
    number: int
    """The number that it has, or is to have."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A workload's revisions once the present template has one."""

    all: tuple[Revision, ...]
    """The oldest first."""
    update: Revision
    """The present template's."""
    collisions: int

    @property
    def twins(self) -> list[Revision]:
        """Others that hold the same: somebody made them, or they were taken over."""
        update = self.update
        return [each for each in self.all if each.data == update.data and each.name != update.name]


def data_of(template: Object) -> Object:
    """What a revision of a template holds; in an order of fields that clients can compare."""
    data = {"spec": {"template": {**template, "$patch": "replace"}}}
    ordered: Object = json.loads(json.dumps(data, sort_keys=True))
    return ordered


def digest_of(template: Object, collisions: int) -> str:
    """The hash of a pod template."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + str(collisions or "")
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def choose(data: Object, revisions: Sequence[Revision]) -> Choice:
    """Finds the revision that holds ``data``. Pure.

    Args:
        data: of the present template.
        revisions: all there are, the oldest first.
    """
    newest = revisions[-1].number if revisions else 0
    present = next((each for each in reversed(revisions) if each.data == data), None)
    if present is not None and present is revisions[-1]:
        return Choice(present, newest)
    return Choice(present, newest + 1)


def forgettable(
    revisions: Sequence[Revision], live: Collection[str], limit: int, *, live_count: bool
) -> list[Revision]:
    """The oldest revisions over ``revisionHistoryLimit``. Pure.

    Args:
        revisions: those that are not the present one, the oldest first.
        live: names of those that pods were made from.
        limit: how many are kept.
        live_count: whether live ones take up the limit, as DaemonSets have it.
    """
    if limit < 0:
        return []
    dead = [each for each in revisions if each.name not in live]
    excess = len(revisions if live_count else dead) - limit
    return dead[: max(excess, 0)]


class History:
    """The revisions of one kind of workload.

    Args:
        client: writes.
        store: where revisions are read.
        kind: the workloads'.
        label: where a revision bears its hash.
    """

    def __init__(self, client: Client, store: Store, kind: Kind, label: str) -> None:
        self._client = client
        self._store = store
        self._kind = kind
        self._label = label

    async def settle(self, record: Workload, stored: Object) -> Settled:
        """Makes sure that the present template has the newest revision.

        Args:
            record: the workload.
            stored: the same as stored.
        """
        found = await self._list(record, stored)
        template = stored["spec"]["template"]
        collisions = (stored.get("status") or {}).get("collisionCount") or 0
        choice = choose(data_of(template), found)
        if choice.present is None:
            made, collisions = await self._create(record, stored, choice.number, collisions)
            return Settled((*found, made), made, collisions)
        present = choice.present
        if present.number == choice.number:
            return Settled(tuple(found), present, collisions)
        key = ObjectKey(*RESOURCE, record.namespace, present.name)
        patch = {"metadata": {"uid": present.uid}, "revision": choice.number}
        raised = Revision.of(await self._client.patch(key, patch))
        others = (each for each in found if each is not present)
        return Settled((*others, raised), raised, collisions)

    async def forget(self, record: Workload, revisions: Sequence[Revision]) -> None:
        """Deletes revisions."""
        for each in revisions:
            key = ObjectKey(*RESOURCE, record.namespace, each.name)
            await self._client.delete(key, uid=each.uid)

    async def _list(self, record: Workload, stored: Object) -> list[Revision]:
        """The workload's revisions, the oldest first; those without a controller are taken."""
        found = []
        labels = selectors.text(stored["spec"].get("selector"))
        token = ""
        while True:
            page = self._store.list(
                *RESOURCE,
                namespace=record.namespace,
                labels=labels,
                limit=PAGE,
                continue_token=token,
            )
            for item in page.items:
                revision = await self._claimed(record, item)
                if revision is not None:
                    found.append(revision)
            token = page.continue_token
            if not token:
                break
        return sorted(found, key=lambda each: (each.number, each.created, each.name))

    async def _claimed(self, record: Workload, item: Listed) -> Revision | None:
        stored: Object = orjson.loads(item.value)
        references = stored["metadata"].get("ownerReferences") or ()
        controller = next((each for each in references if each.get("controller")), None)
        if controller is None and "deletionTimestamp" not in stored["metadata"]:
            await adopt(self._client, item.key, stored["metadata"]["uid"], self._reference(record))
        elif controller is None or controller["uid"] != record.uid:
            return None
        return Revision.of(stored)

    async def _create(
        self, record: Workload, stored: Object, number: int, collisions: int
    ) -> tuple[Revision, int]:
        """Makes a revision; a name that another template has is passed over, and counted."""
        data = data_of(stored["spec"]["template"])
        for count in range(collisions, collisions + MAX_COLLISIONS):
            body = self._body(record, stored, number, count)
            key = ObjectKey(*RESOURCE, record.namespace, body["metadata"]["name"])
            try:
                return Revision.of(await self._client.create(key, {**body, "data": data})), count
            except AlreadyExists:
                present = self._client.get(key)
                if present is not None and present.get("data") == data:
                    return Revision.of(present), count
        raise Conflict(f"no free name for a revision of {self._kind.kind}: {record.name}")

    def _body(
        self, record: Workload, stored: Object, number: int, collisions: int
    ) -> dict[str, Any]:
        template = stored["spec"]["template"]
        digest = digest_of(template, collisions)
        labels = (template.get("metadata") or {}).get("labels") or {}
        return {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"{record.name[:_NAME_PREFIX]}-{digest}",
                "namespace": record.namespace,
                "labels": {**labels, self._label: digest},
                "annotations": stored["metadata"].get("annotations") or {},
                "ownerReferences": [self._reference(record)],
            },
            "revision": number,
        }

    def _reference(self, record: Workload) -> dict[str, Any]:
        return controller_reference(self._kind.api_version, self._kind.kind, record)
