# SPDX-License-Identifier: Apache-2.0
"""``metadata.managedFields``: who set which fields, how and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge.api.structured import sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.structured.sets import Fields

APPLY = "Apply"
UPDATE = "Update"
MAX_UPDATERS = 10
"""With more managers by updates than this, the oldest become one."""
ANCIENT = "ancient-changes"
MAX_ENTRIES = 1000
"""Lists of managers longer than this are not taken."""

Identity = tuple[str, str, str, str]


class Entry(NamedTuple):
    """One manager's fields.

    Attributes:
        manager: its name.
        operation: ``Apply`` or ``Update``.
        api_version: the version that the fields are of.
        subresource: what it wrote through; empty for the object itself.
        time: when its fields last changed; empty when that is not known.
        fields: the set.
    """

    manager: str
    operation: str
    api_version: str
    subresource: str = ""
    time: str = ""
    fields: Fields | None = None

    @property
    def identity(self) -> Identity:
        """What tells entries apart: an applier is one in all versions."""
        version = "" if self.operation == APPLY else self.api_version
        return self.manager, self.operation, version, self.subresource

    @property
    def owned(self) -> Fields:
        """The set, empty when there is none."""
        return self.fields or {}

    def owning(self, fields: Fields) -> Entry:
        """The same manager with other fields."""
        return self if fields is self.fields else self._replace(fields=fields)

    @property
    def shown(self) -> str:
        """The manager as conflicts name it."""
        text = json.dumps(self.manager, ensure_ascii=False)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource, ensure_ascii=False)}"
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


def stored(managed: Any) -> list[Entry]:
    """The entries of an object that we wrote."""
    return [
        Entry(
            one.get("manager", ""),
            one.get("operation", ""),
            one.get("apiVersion", ""),
            one.get("subresource", ""),
            one.get("time") or "",
            one.get("fieldsV1"),
        )
        for one in managed or ()
    ]


def read(managed: Any) -> list[Entry]:
    """The entries that somebody sent; of two with one identity the last counts.

    Raises:
        ValueError: they are malformed.
    """
    if type(managed) is not list or len(managed) > MAX_ENTRIES:
        raise ValueError(f"managedFields is not a list of at most {MAX_ENTRIES}")
    found: dict[Identity, Entry] = {}
    for one in managed:
        entry = _read(one)
        found[entry.identity] = entry
    return list(found.values())


def _read(one: Any) -> Entry:
    if type(one) is not dict:
        raise ValueError("an entry of managedFields is not an object")
    operation = one.get("operation")
    if operation not in (APPLY, UPDATE):
        raise ValueError("operation must be `Apply` or `Update`")
    if one.get("fieldsType") != "FieldsV1":
        raise ValueError(f"invalid fieldsType: {one.get('fieldsType')!r}")
    texts = [one.get(name) or "" for name in ("manager", "apiVersion", "subresource", "time")]
    if any(type(text) is not str for text in texts) or not texts[1]:
        raise ValueError("apiVersion must not be empty, and names must be text")
    manager, version, subresource, time = texts
    fields = sets.ordered(sets.parse(one.get("fieldsV1") or {}))
    return Entry(manager, operation, version, subresource, _time(time), fields)


def _time(text: str) -> str:
    """A time in whole seconds of UTC."""
    if not text or (len(text) == 20 and text[-1] == "Z"):
        return text
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_reset(managed: Any) -> bool:
    """Whether a client clears the list: an empty one, or one with an empty entry."""
    return type(managed) is list and managed in ([], [{}])


def written(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The entries as they are stored and shown, in upstream's order."""
    ranked = sorted(
        entries,
        key=lambda one: (
            one.operation,
            one.time,
            one.manager,
            one.api_version,
            one.subresource,
        ),
    )
    result = []
    for entry in ranked:
        row: dict[str, Any] = {
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": entry.api_version,
        }
        if entry.time:
            row["time"] = entry.time
        row |= {"fieldsType": "FieldsV1", "fieldsV1": entry.owned}
        if entry.subresource:
            row["subresource"] = entry.subresource
        result.append(row)
    return result


def capped(entries: list[Entry]) -> list[Entry]:
    """The entries with the oldest updates of each version in one, when there are too many."""
    updaters = [entry for entry in entries if entry.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return entries
    updaters.sort(key=lambda one: (one.time, _identity_text(one)))
    kept = {entry.identity: entry for entry in entries}
    first: dict[str, Entry] = {}
    for entry in updaters:
        if excess <= 0:
            break
        version = entry.api_version
        if version not in first:
            first[version] = entry
            continue
        bucket = Entry(ANCIENT, UPDATE, version)
        present = kept.get(bucket.identity) or kept.pop(first[version].identity)
        fields = sets.ordered(sets.union(entry.owned, present.owned))
        kept.pop(entry.identity, None)
        kept[bucket.identity] = bucket._replace(time=entry.time, fields=fields)
        excess -= 1
    return list(kept.values())


def _identity_text(entry: Entry) -> str:
    named = {"manager": entry.manager, "operation": UPDATE, "apiVersion": entry.api_version}
    if entry.subresource:
        named["subresource"] = entry.subresource
    return json.dumps(named, ensure_ascii=False, separators=(",", ":"))
