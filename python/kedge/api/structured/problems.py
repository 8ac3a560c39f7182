# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a configuration that is to be applied, in upstream's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.structured.sets import element_text
from kedge.api.structured.types import KeylessError, Type, child, element, resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PROBLEMS = 50
MAX_DEPTH = 100
_CHECKS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "numeric": (int, float),
    "boolean": bool,
}


def describe(kind: Type, value: Any) -> str:
    """What does not fit the type, in one text; empty when all does."""
    found = []
    for one in _problems(kind, value, "", 0):
        found.append(one)
        if len(found) == MAX_PROBLEMS:
            break
    if len(found) < 2:
        return "".join(found)
    return "\n".join(["errors:", *(f"  {one}" for one in found)])


def _problems(kind: Type, value: Any, path: str, depth: int) -> Iterator[str]:
    if value is None:
        return
    prefix = f"{path}: " if path else ""
    if depth > MAX_DEPTH:
        yield f"{prefix}nested deeper than {MAX_DEPTH}"
        return
    kind = resolved(kind, value)
    if kind.form == "any":
        return
    if kind.form == "scalar":
        yield from _scalar(kind, value, prefix)
    elif kind.form == "list":
        if type(value) is list:
            yield from _items(kind, value, path, depth)
        else:
            yield f"{prefix}expected list, got &{{{_go(value)}}}"
    elif type(value) is not dict:
        yield f"{prefix}expected map, got &{{{_go(value)}}}"
    else:
        for key, inner in value.items():
            here = f"{path}.{key}"
            if key not in kind.fields and kind.item is None:
                yield f"{here}: field not declared in schema"
            else:
                yield from _problems(child(kind, key), inner, here, depth + 1)


def _scalar(kind: Type, value: Any, prefix: str) -> Iterator[str]:
    if type(value) in (dict, list):
        fits = False
    elif kind.scalar == "untyped":
        fits = True
    else:
        is_bool = type(value) is bool
        fits = isinstance(value, _CHECKS[kind.scalar]) and is_bool == (kind.scalar == "boolean")
    if fits:
        return
    if kind.scalar == "numeric":
        yield f"{prefix}expected numeric (int or float), got {_go_type(value)}"
    elif kind.scalar == "string":
        yield f"{prefix}expected string, got &value.valueUnstructured{{Value:{_go(value)}}}"
    else:
        wanted = "boolean" if kind.scalar == "boolean" else "any scalar"
        yield f"{prefix}expected {wanted}, got &{{{_go(value)}}}"


def _items(kind: Type, value: list[Any], path: str, depth: int) -> Iterator[str]:
    item = kind.item or kind
    prefix = f"{path}: " if path else ""
    seen: set[str] = set()
    for index, one in enumerate(value):
        if kind.atomic:
            yield from _problems(item, one, f"{path}[{index}]", depth + 1)
            continue
        try:
            name = element(kind, one)
        except KeylessError as problem:
            yield f"{prefix}element {index}: {problem}"
            return
        shown = element_text(name)
        if name in seen:
            yield f"{prefix}duplicate entries for key {shown}"
        seen.add(name)
        yield from _problems(item, one, path + shown, depth + 1)


def _go_type(value: Any) -> str:
    names = {str: "string", bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "nil")


def _go(value: Any) -> str:
    """A value about as Go prints it, cut short."""
    if type(value) is bool:
        text = "true" if value else "false"
    elif type(value) is dict:
        text = f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value)[:20])}]"
    elif type(value) is list:
        text = f"[{' '.join(_go(item) for item in value[:20])}]"
    else:
        text = str(value)
    return text[:500]
