# SPDX-License-Identifier: Apache-2.0
"""What a write does to the owners of fields, and what an apply makes of an object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge.api.structured import entries as managed
from kedge.api.structured import sets
from kedge.api.structured.compare import Changes, compare, fields_of
from kedge.api.structured.entries import APPLY, UPDATE, Entry
from kedge.api.structured.merging import filled, merge, remove, with_named
from kedge.api.structured.types import KeylessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.api.structured.sets import Fields, Path
    from kedge.api.structured.types import Type

Object = dict[str, Any]

BEFORE_FIRST_APPLY = "before-first-apply"
KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_ANNOTATIONS_BYTES = 256 * 1024

NOT_OWNED = frozenset(
    (
        "clusterName",
        "creationTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    )
)
"""Fields of metadata that nobody owns."""
_STRIPPED: Fields = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": {}, **{f"f:{name}": {} for name in NOT_OWNED}},
}
"""What nobody owns."""


def _everything(fields: Fields) -> Fields:
    return fields


class Writer(NamedTuple):
    """Who writes, through what, and when.

    Attributes:
        manager: the name of the manager.
        api_version: the version written in.
        now: the time, for what changes.
        subresource: what is written through.
        owns: of a set of fields, those that this way of writing can set.
    """

    manager: str
    api_version: str
    now: str
    subresource: str = ""
    owns: Callable[[Fields], Fields] = _everything

    def entry(self, operation: str) -> Entry:
        """The writer's entry, without fields."""
        return Entry(self.manager or "unknown", operation, self.api_version, self.subresource)


@dataclass(slots=True)
class ConflictsError(Exception):
    """Fields that others own and an apply would set to something else."""

    conflicts: list[tuple[Entry, Path]]

    def __str__(self) -> str:
        if len(self.conflicts) == 1:
            entry, path = self.conflicts[0]
            return f"Apply failed with 1 conflict: conflict with {entry.shown}: {sets.text(path)}"
        lines = []
        last = None
        for entry, path in self.conflicts:
            if entry is not last:
                lines.append(f"conflicts with {entry.shown}:")
                last = entry
            lines.append(f"- {sets.text(path)}")
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(lines)


def update(entries: list[Entry], changes: Changes, writer: Writer) -> list[Entry]:
    """The owners after a write that was no apply: what it set is the writer's alone."""
    changed, removed = writer.owns(changes.changed), writer.owns(changes.removed)
    taken = sets.difference(changed, _STRIPPED)
    own = writer.entry(UPDATE)
    identity = own.identity
    result = []
    before: Fields = {}
    for entry in entries:
        if taken and entry.identity == identity:
            before = _left(entry.owned, {}, removed)
        elif fields := _left(entry.owned, changed, removed):
            result.append(entry.owning(fields))
    if taken:
        if before:
            known = sets.includes(before, taken)
            taken = before if known else sets.ordered(sets.union(before, taken))
        result.append(own._replace(time=writer.now, fields=taken))
    return managed.capped(result)


def _left(fields: Fields, changed: Fields, removed: Fields) -> Fields:
    for gone in (changed, removed):
        if gone and fields and not fields.keys().isdisjoint(gone):
            fields = sets.difference(fields, gone)
    return fields


def apply(
    kind: Type,
    live: Object,
    config: Object,
    entries: list[Entry],
    writer: Writer,
    *,
    force: bool,
) -> tuple[Object, list[Entry]]:
    """An object with a configuration applied, and its owners.

    Args:
        kind: how the object is built.
        live: the object as stored, without ``managedFields``; empty when there is none.
        config: what is applied.
        entries: the owners so far.
        writer: who applies.
        force: whether to take what others own.

    Raises:
        ConflictsError: others own what would change.
    """
    if not entries:
        first = writer._replace(manager=BEFORE_FIRST_APPLY)
        entries = update([], compare(kind, {}, live), first)
    try:
        new, owners = _apply(kind, live, config, entries, writer, force=force)
    except ConflictsError as error:
        if writer.manager != KUBECTL:
            raise
        allowed = _last_applied(kind, live, writer.api_version)
        if allowed is None:
            raise
        kept = [one for one in error.conflicts if not sets.has(allowed, one[1])]
        if kept:
            raise ConflictsError(kept) from None
        new, owners = _apply(kind, live, config, entries, writer, force=True)
    if writer.manager == KUBECTL:
        new = _annotated(new, config)
    return new, owners


def _apply(
    kind: Type,
    live: Object,
    config: Object,
    entries: list[Entry],
    writer: Writer,
    *,
    force: bool,
) -> tuple[Object, list[Entry]]:
    own = writer.entry(APPLY)
    last = next((one for one in entries if one.identity == own.identity), None)
    own = own._replace(fields=writer.owns(fields_of(kind, config)))
    others = [one for one in entries if one is not last]
    new = merge(kind, live, config)
    if last is not None and last.fields:
        new = _prune(kind, new, last.owned, [own, *others])
    changes = compare(kind, live, new)
    changed, removed = writer.owns(changes.changed), writer.owns(changes.removed)
    if not force:
        conflicts = [
            (one, path)
            for one in sorted(others, key=lambda one: one.identity)
            for path in sets.paths(sets.intersection(one.owned, changed))
        ]
        if conflicts:
            raise ConflictsError(conflicts)
    left = ((one, _left(one.owned, changed, removed)) for one in others)
    result = [one.owning(fields) for one, fields in left if fields]
    mine = sets.difference(own.owned, _STRIPPED)
    if mine:
        since = (last.time if last is not None else "") if new == live else writer.now
        result.append(own._replace(time=since, fields=sets.ordered(mine)))
    return new, result


def _prune(kind: Type, merged: Object, last: Fields, entries: list[Entry]) -> Object:
    """Without what the applier applied last time, and neither it now nor anybody else owns."""

    def without(fields: Fields) -> Object:
        return remove(kind, merged, fields) or {}

    def named(fields: Fields) -> Fields:
        return with_named(kind, fields)

    def present(value: Object) -> Fields:
        return named(fields_of(kind, value))

    owned: Fields = {}
    for entry in entries:
        owned = sets.union(owned, entry.owned)
    everything = present(merged)
    kept = present(filled(without(named(last))))
    pruned = filled(without(sets.difference(everything, sets.union(kept, named(owned)))))
    gone = sets.difference(everything, present(pruned))
    return without(sets.intersection(gone, named(last)))


def _last_applied(kind: Type, live: Object, api_version: str) -> Fields | None:
    """What kubectl's client-side apply set and nobody changed since: kubectl may take it over."""
    annotations = (live.get("metadata") or {}).get("annotations") or {}
    text = annotations.get(LAST_APPLIED)
    if not text:
        return None
    try:
        config = json.loads(text)
        if type(config) is not dict or config.get("apiVersion") != api_version:
            return None
        fields = fields_of(kind, config)
        changed, removed = compare(kind, config, live)
    except (ValueError, TypeError, AttributeError, KeylessError, RecursionError):
        return None
    return sets.difference(sets.difference(fields, changed), removed)


def _annotated(new: Object, config: Object) -> Object:
    """The object with kubectl's annotation brought up to date, where it has one."""
    metadata = new.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return new
    applied = {**config, "metadata": dict(config.get("metadata") or {})}
    if applied["metadata"].get("annotations") is not None:
        rest = dict(applied["metadata"]["annotations"])
        rest.pop(LAST_APPLIED, None)
        applied["metadata"]["annotations"] = rest
    text = sets.dump(applied) + "\n"
    annotations = {**annotations, LAST_APPLIED: text}
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS_BYTES:
        del annotations[LAST_APPLIED]
    return {**new, "metadata": {**metadata, "annotations": annotations}}
