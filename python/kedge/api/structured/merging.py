# SPDX-License-Identifier: Apache-2.0
"""A configuration merged into a value, and fields taken out of one."""

from __future__ import annotations

from typing import Any

from kedge.api.structured.compare import MISSING
from kedge.api.structured.sets import SELF, Fields, is_member, with_self
from kedge.api.structured.types import ANY, Type, child, element, resolved


def merge(kind: Type, live: Any, config: Any) -> Any:
    """What ``live`` is with all that ``config`` says; nothing is removed.

    Elements of lists stay in their order where the configuration leaves it open.
    """
    merged = _merge(kind, live, config)
    return {} if merged is MISSING else merged


def _merge(kind: Type, live: Any, config: Any) -> Any:
    known = live if config is MISSING else config
    kind = resolved(kind, known)
    other = kind if live is MISSING or config is MISSING else resolved(kind, live)
    if kind.is_leaf or other.form != kind.form or _is_empty(live, config):
        return known
    if kind.form == "list":
        return _merge_items(kind, _present(live, []), _present(config, []))
    left, right = _present(live, {}), _present(config, {})
    result = {}
    for key in {**left, **right}:
        merged = _merge(child(kind, key), left.get(key, MISSING), right.get(key, MISSING))
        if merged is not MISSING:
            result[key] = merged
    return result or MISSING


def _is_empty(live: Any, config: Any) -> bool:
    return (live is MISSING or not live) and (config is MISSING or not config)


def _present(value: Any, empty: Any) -> Any:
    return empty if value is MISSING or value is None else value


def _merge_items(kind: Type, live: list[Any], config: list[Any]) -> Any:
    """Both lists in one, as upstream orders them: shared elements as the configuration has them."""
    wanted = [element(kind, item) for item in config]
    stood = [element(kind, item) for item in live]
    right = dict(zip(wanted, config, strict=True))
    left: dict[str, Any] = {}
    for name, item in zip(stood, live, strict=True):
        left[name] = None if name in left else item
    shared = [name for name in wanted if name in left]
    shared.reverse()
    following = shared.pop() if shared else None
    result: list[Any] = []
    merged: set[str] = set()
    item_type = kind.item or kind
    here = there = 0
    while here < len(stood) or there < len(wanted):
        if here < len(stood) and there < len(wanted):
            name = stood[here]
            if name == wanted[there]:
                merged.add(name)
                result.append(_merge(item_type, left[name], right[name]))
                here, there = here + 1, there + 1
                following = shared.pop() if shared else None
                continue
            if name in right and following is not None and following != name:
                here += 1
                continue
        if here < len(stood):
            name = stood[here]
            if name not in right:
                result.append(_merge(item_type, live[here], MISSING))
                here += 1
                continue
            if name in merged:
                here += 1
        if there < len(wanted):
            name = wanted[there]
            merged.add(name)
            result.append(_merge(item_type, left.get(name, MISSING), right[name]))
            there += 1
            if following == name:
                following = shared.pop() if shared else None
    kept = [item for item in result if item is not MISSING]
    return kept or MISSING


def remove(kind: Type, value: Any, fields: Fields) -> Any:
    """The value without the elements of a set; None when nothing is left."""
    kind = resolved(kind, value)
    if kind.form == "scalar":
        return value
    if kind.atomic or not value:
        return None
    if kind.form == "list":
        kept = []
        for item in value:
            node = fields.get(element(kind, item))
            if node is None:
                kept.append(item)
            elif not is_member(node):
                kept.append(remove(kind.item or kind, item, node))
        return kept or None
    result = {}
    for key, inner in value.items():
        node = fields.get("f:" + key)
        if node is None:
            result[key] = inner
        elif not is_member(node):
            result[key] = remove(child(kind, key), inner, node)
    return result or None


def filled(value: Any) -> Any:
    """The value as it is stored: without what was emptied."""
    if isinstance(value, dict):
        return {key: filled(inner) for key, inner in value.items() if inner is not None}
    return [filled(inner) for inner in value] if isinstance(value, list) else value


def with_named(kind: Type, fields: Fields) -> Fields:
    """The set with every struct's field that anything below is in."""
    result: Fields = {}
    for name, node in fields.items():
        if not node:
            result[name] = node
            continue
        if name[0] == "f":
            key = name[2:]
            inner = with_named(child(kind, key), node)
            result[name] = with_self(inner) if key in kind.fields else inner
        elif name[0] == "k":
            result[name] = with_named(kind.item or kind, node)
        else:
            result[name] = node
    return result


def reconciled(kind: Type, fields: Fields) -> Fields:
    """A set that was made by an earlier schema: what has become atomic has one owner, and no parts."""
    result: Fields = {}
    for name, node in fields.items():
        if not node or name == SELF or name[0] not in "fk":
            result[name] = node
            continue
        inner = child(kind, name[2:]) if name[0] == "f" else kind.item or ANY
        result[name] = {} if inner.is_leaf else reconciled(inner, node)
    return result
