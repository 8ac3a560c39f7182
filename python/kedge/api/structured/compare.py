# SPDX-License-Identifier: Apache-2.0
"""The fields of a value, and which of them a change touched."""

from __future__ import annotations

from typing import Any, NamedTuple

from kedge.api.structured.sets import SELF, Fields, in_order, with_self
from kedge.api.structured.types import ANY, Type, child, element, resolved

MISSING: Any = object()
_EMPTY: tuple[Any, ...] = (None, {}, [])


class Changes(NamedTuple):
    """What a change did: fields that were set, anew or to another value, and fields that are gone."""

    changed: Fields
    removed: Fields


def fields_of(kind: Type, value: Any) -> Fields:
    """Every field that a configuration mentions."""
    return _mentioned(kind, value) or {}


def _mentioned(kind: Type, value: Any) -> Fields | None:
    kind = resolved(kind, value)
    if kind.is_leaf or value is None:
        return {}
    if kind.form == "list":
        return _mentioned_items(kind, value)
    result: Fields = {}
    for key in sorted(value):
        inner = value[key]
        node = _mentioned(child(kind, key), inner)
        if inner is None or inner == {} or key not in kind.fields:
            node = with_self(node)
        if node is not None:
            result["f:" + key] = node
    return result or None


def _mentioned_items(kind: Type, value: list[Any]) -> Fields | None:
    item = kind.item
    result: Fields = {}
    twice: set[str] = set()
    for one in value:
        name = element(kind, one)
        if name in result:
            twice.add(name)
        elif item is not None:
            result[name] = with_self(_mentioned(item, one))
    for name in twice:
        result[name] = {}
    return {name: result[name] for name in in_order(result)} or None


def compare(kind: Type, old: Any, new: Any) -> Changes:
    """What changed from one whole value to another."""
    changed, removed = _compare(kind, old, new)
    return Changes(changed or {}, removed or {})


Pair = tuple[Fields | None, Fields | None]
_SAME: Pair = (None, None)


def _compare(kind: Type, old: Any, new: Any) -> Pair:
    if old is MISSING:
        return _all(kind, new), None
    if new is MISSING:
        return None, _all(kind, old)
    if old == new:
        return _SAME
    kind, before = resolved(kind, new), resolved(kind, old)
    if kind.form != before.form or kind.is_leaf or (old in _EMPTY and new in _EMPTY):
        return {}, None
    if kind.form == "list":
        return _compare_items(kind, old or [], new or [])
    changed: Fields = {}
    removed: Fields = {}
    old, new = old or {}, new or {}
    for key in sorted(old.keys() | new.keys()):
        left, right = old.get(key, MISSING), new.get(key, MISSING)
        if left == right:
            continue
        inner = child(kind, key)
        if key in kind.always:
            left, right = _zero(inner, left), _zero(inner, right)
        added, gone = _compare(inner, left, right)
        if added is not None:
            changed["f:" + key] = added
        if gone is not None:
            removed["f:" + key] = gone
    return changed or None, removed or None


def _zero(kind: Type, value: Any) -> Any:
    """What Go has where nothing was said."""
    if value is not MISSING:
        return value
    return {} if kind.form == "map" else None


def _all(kind: Type, value: Any) -> Fields:
    """A value that came or went as a whole: it, and every field of it.

    Creates are made of this, so it calls little.
    """
    if kind.form == "any":
        kind = resolved(kind, value)
    if kind.is_leaf or not value:
        return {}
    result: Fields = {SELF: {}}
    if kind.form == "map":
        fields, item = kind.fields, kind.item or ANY
        for key in sorted(value):
            inner = fields.get(key, item)
            result["f:" + key] = {} if inner.is_leaf else _all(inner, value[key])
        return result
    item = kind.item or ANY
    found = _by_element(kind, value)
    for name in in_order(found):
        one = found[name]
        result[name] = {} if type(one) is _Several else _all(item, one)
    return result


class _Several(list[Any]):
    """Elements that have one name."""


def _compare_items(kind: Type, old: list[Any], new: list[Any]) -> Pair:
    changed: Fields = {}
    removed: Fields = {}
    before, after = _by_element(kind, old), _by_element(kind, new)
    item = kind.item or ANY
    for name in in_order(before if before.keys() == after.keys() else {**before, **after}):
        left, right = before.get(name, MISSING), after.get(name, MISSING)
        if left == right:
            continue
        if type(left) is _Several or type(right) is _Several:
            (removed if right is MISSING else changed)[name] = {}
            continue
        added, gone = _compare(item, left, right)
        if added is not None:
            changed[name] = added
        if gone is not None:
            removed[name] = gone
    return changed or None, removed or None


def _by_element(kind: Type, value: list[Any]) -> dict[str, Any]:
    """Elements by their names."""
    names = [element(kind, item) for item in value]
    found = dict(zip(names, value, strict=True))
    if len(found) < len(names):
        found = {}
        for name, item in zip(names, value, strict=True):
            found.setdefault(name, _Several()).append(item)
        found = {name: items if len(items) > 1 else items[0] for name, items in found.items()}
    return found
