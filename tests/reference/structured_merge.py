# SPDX-License-Identifier: Apache-2.0
"""Server-side apply, slowly: sets of fields are Python sets of whole paths, and objects are walked in full."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from kedge.api.structured.types import Type

Path = tuple[str, ...]
Paths = frozenset[Path]
NOTHING: Paths = frozenset()


def name_of(kind: Type, item: Any) -> str:
    if not kind.keys:
        return "v:" + json.dumps(item)
    keys = {key: item.get(key, kind.defaults.get(key)) for key in kind.keys}
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


def leaf(kind: Type) -> bool:
    return kind.form == "scalar" or kind.atomic


def parts(kind: Type, value: Any) -> dict[str, tuple[Type, Any]]:
    """What is directly below a value, by path element; what was emptied is null, and still there."""
    if value is None:
        return {}
    if kind.form == "map":
        return {"f:" + key: (kind.fields.get(key) or kind.item, value[key]) for key in value}
    return {name_of(kind, item): (kind.item, item) for item in value}


def mentioned(kind: Type, value: Any, here: Path = ()) -> set[Path]:
    """Every field that a configuration mentions."""
    if leaf(kind):
        return {here}
    found: set[Path] = set()
    for name, (inner, item) in parts(kind, value).items():
        found |= mentioned(inner, item, (*here, name))
        is_field = kind.form == "map" and name[2:] in kind.fields
        if not is_field or item == {}:
            found.add((*here, name))
    return found


def everything(kind: Type, value: Any, here: Path = ()) -> dict[Path, Any]:
    """Every path of a value, with what is there where nothing below it counts."""
    if leaf(kind):
        return {here: ("is", value)}
    found: dict[Path, Any] = {here: "has parts"} if here else {}
    for name, (inner, item) in parts(kind, value).items():
        found |= everything(inner, item, (*here, name))
    return found


def always(kind: Type, here: Path = ()) -> set[Path]:
    """Paths that Go's empty values have."""
    found: set[Path] = set()
    for key, inner in kind.fields.items():
        if key in kind.always:
            found.add((*here, "f:" + key))
            found |= always(inner, (*here, "f:" + key))
    return found


def changes(kind: Type, old: Any, new: Any) -> tuple[Paths, Paths]:
    """What was set and what is gone."""
    before, after, free = everything(kind, old), everything(kind, new), always(kind)
    changed = {p for p, what in after.items() if before.get(p) != what and p not in free}
    return frozenset(changed), frozenset(p for p in before if p not in after and p not in free)


def merged(kind: Type, live: Any, config: Any) -> Any:
    """Both in one, with what the configuration says; lists in any order."""
    if leaf(kind) or not live:
        return config
    if kind.form == "map":
        result = dict(live)
        for key, value in config.items():
            inner = kind.fields.get(key) or kind.item
            result[key] = merged(inner, live[key], value) if key in live else value
        return result
    items = {name_of(kind, item): item for item in live}
    for item in config:
        name = name_of(kind, item)
        items[name] = merged(kind.item, items[name], item) if name in items else item
    return list(items.values())


def without(kind: Type, value: Any, gone: Paths, here: Path = ()) -> Any:
    """The value without some paths and all that is below them; None when nothing is left of a container."""
    if leaf(kind):
        return value
    below = {p[: len(here) + 1] for p in gone if len(p) > len(here)}
    kept = {}
    for name, (inner, item) in parts(kind, value).items():
        path = (*here, name)
        if path in gone:
            continue
        touched = path in below and any(p[: len(path)] == path for p in gone)
        kept[name] = without(inner, item, gone, path) if touched else item
    if kind.form == "map":
        return {name[2:]: item for name, item in kept.items()} or None
    return list(kept.values()) or None


def cleaned(value: Any) -> Any:
    """As it is stored: without nulls."""
    if isinstance(value, dict):
        return {key: cleaned(item) for key, item in value.items() if item is not None}
    return [cleaned(item) for item in value] if isinstance(value, list) else value


def named(kind: Type, paths: Paths) -> Paths:
    """With every struct's field on the way."""
    found = set(paths)
    for path in paths:
        inner: Type | None = kind
        for depth, name in enumerate(path):
            if inner is None or leaf(inner):
                break
            if name[:2] == "f:" and name[2:] in inner.fields:
                found.add(path[: depth + 1])
                inner = inner.fields[name[2:]]
            else:
                inner = inner.item
    return frozenset(found)


@dataclass
class Model:
    """An object, and who owns what."""

    kind: Type
    value: dict[str, Any] = field(default_factory=dict)
    owners: dict[tuple[str, str], Paths] = field(default_factory=dict)

    def update(self, manager: str, new: dict[str, Any]) -> None:
        changed, removed = changes(self.kind, self.value, new)
        self._lose(changed | removed)
        if changed:
            key = (manager, "Update")
            self.owners[key] = self.owners.get(key, NOTHING) | changed
        self.value = new

    def apply(self, manager: str, config: dict[str, Any], *, force: bool) -> set[tuple[str, Path]]:
        """Conflicts; nothing is done when there are any."""
        key = (manager, "Apply")
        mine = frozenset(mentioned(self.kind, config))
        new = merged(self.kind, self.value, config)
        last = self.owners.get(key, NOTHING)
        others = {one: paths for one, paths in self.owners.items() if one != key}
        if last:
            new = self._pruned(new, last, mine.union(*others.values()))
        changed, removed = changes(self.kind, self.value, new)
        conflicts = {(one[0], path) for one, paths in others.items() for path in paths & changed}
        if conflicts and not force:
            return conflicts
        self.owners = others
        self._lose(changed | removed)
        if mine:
            self.owners[key] = mine
        self.value = cleaned(new)
        return set()

    def _lose(self, paths: Paths) -> None:
        left = {one: owned - paths for one, owned in self.owners.items()}
        self.owners = {one: owned for one, owned in left.items() if owned}

    def _pruned(self, new: dict[str, Any], last: Paths, owned: Paths) -> dict[str, Any]:
        def fields(value: Any) -> Paths:
            return named(self.kind, frozenset(mentioned(self.kind, value)))

        whole = fields(new)
        kept = fields(cleaned(without(self.kind, new, named(self.kind, last)) or {}))
        pruned = cleaned(without(self.kind, new, whole - kept - named(self.kind, owned)) or {})
        gone = (whole - fields(pruned)) & named(self.kind, last)
        return without(self.kind, new, gone) or {}
