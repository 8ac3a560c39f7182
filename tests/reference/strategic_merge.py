# SPDX-License-Identifier: Apache-2.0
"""A slow, obvious model of strategic-merge patch, for lists of maps and lists of scalars.

It works on copies, on one field at a time, and states each rule as a whole: what a patched list
holds, then in which order. The shape is given as plain data: a field's name to its merge key, to
``""`` for a merged list of scalars, to a nested shape (dict) for an object, or to ``(key, shape)``
for a merged list of objects. Fields not in the shape are replaced.
"""

from __future__ import annotations

import copy
from typing import Any


def apply(original: dict, patch: dict, shape: dict) -> dict:
    if "$patch" in patch:
        if patch["$patch"] == "delete":
            return {}
        return clean({k: v for k, v in patch.items() if k != "$patch"})
    result = copy.deepcopy(original)
    if "$retainKeys" in patch:
        result = {k: v for k, v in result.items() if k in patch["$retainKeys"]}
    names = {
        k.split("/", 1)[1] if k.startswith("$") and "/" in k else k
        for k in patch
        if k != "$retainKeys"
    }
    for name in sorted(names):
        value = patched_field(result.get(name), name, patch, shape.get(name))
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def patched_field(before: Any, name: str, patch: dict, rule: Any) -> Any:
    removed = patch.get("$deleteFromPrimitiveList/" + name, [])
    order = patch.get("$setElementOrder/" + name)
    if name in patch and patch[name] is None:
        return None
    value = patch.get(name)
    if isinstance(value, dict):
        if isinstance(before, dict):
            return apply(before, value, rule if isinstance(rule, dict) else {})
        return None if value.get("$patch") == "delete" else clean(value)
    if isinstance(value, list) or order is not None or removed:
        return patched_list(before, value, order, removed, rule)
    return value


def patched_list(before: Any, value: Any, order: Any, removed: list, rule: Any) -> Any:
    if before is None and value is None:
        return None
    merges = rule is not None and not isinstance(rule, dict)
    if value is not None and (before is None or not merges):
        held = clean(value)
    else:
        held = [item for item in (before or []) if item not in removed]
        if value is not None:
            held = merged(held, value, rule)
    if not merges:
        return held
    key = rule[0] if isinstance(rule, tuple) else rule
    replaced = any(isinstance(i, dict) and i.get("$patch") == "replace" for i in value or [])
    if value is not None and before is not None and not replaced:
        plain = [i for i in value if not (isinstance(i, dict) and "$patch" in i)]
        held = ordered(held, plain, before, key)
    if order is not None:
        held = ordered(held, order, before or [], key)
    return held


def merged(held: list, value: list, rule: Any) -> list:
    if isinstance(rule, str):
        return held + [
            item for i, item in enumerate(value) if item not in held and item not in value[:i]
        ]
    key, shape = rule
    if any(item.get("$patch") == "replace" for item in value):
        return [clean(item) for item in value if "$patch" not in item]
    gone = [item[key] for item in value if item.get("$patch") == "delete"]
    held = [item for item in held if item[key] not in gone]
    for item in value:
        if "$patch" in item:
            continue
        matching = [i for i, other in enumerate(held) if other[key] == item[key]]
        if matching:
            held[matching[0]] = apply(held[matching[0]], item, shape)
        else:
            held.append(clean(item))
    return held


def ordered(held: list, wanted: list, before: list, key: str) -> list:
    def name(item: Any) -> Any:
        return item[key] if isinstance(item, dict) else item

    ranks = [name(item) for item in wanted]
    stood = [name(item) for item in before]
    first = sorted([i for i in held if name(i) in ranks], key=lambda i: ranks.index(name(i)))
    rest = sorted(
        [i for i in held if name(i) not in ranks],
        key=lambda i: stood.index(name(i)) if name(i) in stood else len(stood),
    )
    result = []
    while first and rest:
        both = name(first[0]) in stood and name(rest[0]) in stood
        if both and stood.index(name(rest[0])) < stood.index(name(first[0])):
            result.append(rest.pop(0))
        else:
            result.append(first.pop(0))
    return result + first + rest


def clean(value: Any) -> Any:
    if isinstance(value, list):
        return [clean(item) for item in value if not (isinstance(item, dict) and "$patch" in item)]
    if isinstance(value, dict):
        return {
            k: clean(v)
            for k, v in value.items()
            if v is not None
            and not k.startswith("$")
            and not (isinstance(v, dict) and v.get("$patch") == "delete")
        }
    return value
