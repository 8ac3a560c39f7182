# SPDX-License-Identifier: Apache-2.0
"""Sets of fields, kept as ``FieldsV1`` has them.

A set is a dict from path elements to what is below: ``f:NAME`` is a field or key of a map, ``k:{...}`` an
element of a list by its keys, ``v:VALUE`` one of a set, ``i:INDEX`` one by its place. An element is itself in
the set when nothing is below it, or when ``.`` is. Nothing here changes what it is given.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Fields = dict[str, Any]
Path = tuple[str, ...]

SELF = "."
MAX_DEPTH = 100
"""Sets nested deeper than this are refused."""
RANKED = 2048
"""So many elements have their place remembered, each of at most ``RANKED_LENGTH`` characters."""
RANKED_LENGTH = 200


def with_self(node: Fields | None) -> Fields:
    """The element itself, with what is below it."""
    if not node:
        return {}
    return node if SELF in node else {SELF: {}, **node}


def is_member(node: Fields) -> bool:
    """Whether the element itself is in the set."""
    return not node or SELF in node


def union(left: Fields, right: Fields) -> Fields:
    """What is in either."""
    if not left or not right:
        return left or right
    result = dict(left)
    for name, node in right.items():
        present = result.get(name)
        if present is None:
            result[name] = node
        elif not present:
            result[name] = with_self(node)
        else:
            result[name] = union(present, node) if node else with_self(present)
    return result


def includes(fields: Fields, others: Fields) -> bool:
    """Whether ``others`` are all in ``fields``."""
    for name, node in others.items():
        found = fields.get(name)
        if found is None:
            return False
        if not node:
            if found and SELF not in found:
                return False
        elif found:
            if not includes(found, node):
                return False
        elif node.keys() != {SELF}:
            return False
    return True


def intersection(left: Fields, right: Fields) -> Fields:
    """What is in both."""
    return _below(left, right, _shared)


def difference(left: Fields, right: Fields) -> Fields:
    """``left`` without the elements of ``right``; what is below such an element stays."""
    return _without(left, right, _rest)


def deep_difference(left: Fields, right: Fields) -> Fields:
    """``left`` without the elements of ``right`` and all that is below them."""
    return _without(left, right, _rest_of_tree)


def _below(left: Fields, right: Fields, both: Any) -> Fields:
    result: Fields = {}
    small, large = (left, right) if len(left) <= len(right) else (right, left)
    for name, node in small.items():
        other = large.get(name)
        if name != SELF and other is not None and (kept := both(node, other)) is not None:
            result[name] = kept
    return result


def _without(left: Fields, right: Fields, both: Any) -> Fields:
    result: Fields = {}
    for name, node in left.items():
        if name == SELF:
            continue
        other = right.get(name)
        kept = node if other is None else both(node, other)
        if kept is not None:
            result[name] = kept
    return result


def _node(below: Fields, *, member: bool) -> Fields | None:
    """An element of a set; None when neither it nor anything below it is in."""
    if not below:
        return {} if member else None
    return {SELF: {}, **below} if member else below


def _shared(left: Fields, right: Fields) -> Fields | None:
    member = is_member(left) and is_member(right)
    return _node(_below(left, right, _shared), member=member)


def _rest(left: Fields, right: Fields) -> Fields | None:
    member = is_member(left) and not is_member(right)
    return _node(_without(left, right, _rest), member=member)


def _rest_of_tree(left: Fields, right: Fields) -> Fields | None:
    if is_member(right):
        return None
    return _node(_without(left, right, _rest_of_tree), member=is_member(left))


def has(fields: Fields, path: Path) -> bool:
    """Whether a path is in the set."""
    node = fields
    for name in path:
        found = node.get(name)
        if found is None:
            return False
        node = found
    return is_member(node)


def paths(fields: Fields, prefix: Path = ()) -> Iterator[Path]:
    """Every path, elements before what is below them, as upstream lists them."""
    ordered_names = [name for name in in_order(fields) if name != SELF]
    for name in ordered_names:
        if is_member(fields[name]):
            yield (*prefix, name)
    for name in ordered_names:
        yield from paths(fields[name], (*prefix, name))


def ordered(fields: Fields) -> Fields:
    """The set with its elements in upstream's order."""
    return {name: ordered(node) if (node := fields[name]) else node for name in in_order(fields)}


def in_order(names: Collection[str]) -> Collection[str]:
    """Path elements of one level in upstream's order."""
    if len(names) < 2:
        return names
    for name in names:
        if name[0] in "kvi":
            return sorted(names, key=_rank)
    return sorted(names)


_CLASSES = {".": 0, "f": 1, "k": 2, "v": 3, "i": 4}


def _rank(name: str) -> tuple[Any, ...]:
    """What elements of one level are sorted by; the same few come again and again."""
    return _ranked(name) if len(name) <= RANKED_LENGTH else _ranked.__wrapped__(name)


@lru_cache(maxsize=RANKED)
def _ranked(name: str) -> tuple[Any, ...]:
    kind, text = _CLASSES.get(name[0], 5), name[2:]
    if kind in (2, 3, 4):
        return kind, _comparable(json.loads(text))
    return kind, text


def _comparable(value: Any) -> tuple[Any, ...]:
    """Values in upstream's order: numbers, then text, then truth; keys by name and value."""
    if isinstance(value, dict):
        return 4, tuple((name, _comparable(inner)) for name, inner in sorted(value.items()))
    if isinstance(value, bool):
        return 3, value
    if isinstance(value, str):
        return 2, value
    return (1, value) if isinstance(value, int | float) else (5, json.dumps(value))


def text(path: Path) -> str:
    """A path as messages show it: ``.spec.containers[name="a"].image``."""
    return "".join(element_text(name) for name in path)


def element_text(name: str) -> str:
    """One element of a path as messages show it."""
    kind, rest = name[:2], name[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "v:":
        return f"[={rest}]"
    if kind == "k:":
        keys = json.loads(rest)
        pairs = (f"{key}={dump(value)}" for key, value in keys.items())
        return f"[{','.join(pairs)}]"
    return f"[{rest}]"


def dump(value: Any) -> str:
    """JSON as Go writes it: without spaces, keys sorted, HTML escaped."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if "<" in plain or ">" in plain or "&" in plain:
        for mark in "<>&":
            plain = plain.replace(mark, f"\\u{ord(mark):04x}")
    return plain


def parse(fields: Any, depth: int = 0) -> Fields:
    """A set that came from outside, in our form.

    Raises:
        ValueError: it is not one.
    """
    if type(fields) is not dict:
        raise ValueError(f"a set of fields is not an object: {type(fields).__name__}")
    if depth > MAX_DEPTH:
        raise ValueError(f"a set of fields is nested deeper than {MAX_DEPTH}")
    result: Fields = {}
    for name, inner in fields.items():
        element = _element(name)
        if element is None:
            continue
        node = {} if element == SELF else parse(inner, depth + 1)
        present = result.get(element)
        result[element] = node if present is None else union({"": present}, {"": node})[""]
    return result


def _element(name: str) -> str | None:
    """A path element in our form; None for a kind that nobody knows, which upstream skips."""
    kind, rest = name[:2], name[2:]
    if name == SELF or kind == "f:":
        return name
    if kind not in ("k:", "v:", "i:"):
        return None
    value = json.loads(rest)
    if kind == "k:" and type(value) is not dict:
        raise ValueError(f"keys of a list are not an object: {rest}")
    if kind == "i:" and type(value) is not int:
        raise ValueError(f"an index is not a number: {rest}")
    return kind + dump(value)
