# SPDX-License-Identifier: Apache-2.0
"""What fields objects have: typed decoding as the API server does it, and how lists merge.

``generated/schema.json`` names every field of every type. ``decode`` holds a parsed document
against it: unknown fields are reported and dropped, nulls are dropped, quantities are written
canonically, and a value of a wrong type is refused. The common case, a clean document, is one fast
pass that changes nothing; only when that pass finds something does the slow one run, which knows
paths. Duplicate keys are found by counting, see ``duplicates``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from kedge.api import quantities
from kedge.errors import BadRequest

MAX_DEPTH = 60
"""Objects nested deeper than this are refused."""
_TIME = re.compile(
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)"
    r"(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
_SPACED_KEY = re.compile(rb'"\s+:')
Check = Callable[[Any], bool]


@dataclass(slots=True)
class Field:
    """One field's type.

    Attributes:
        type: ``struct``, ``list``, ``map`` or a scalar's name.
        struct: the fields, for ``struct``.
        item: the type of elements, for ``list`` and ``map``.
        strategies: of strategic merge: ``merge``, ``replace``, ``retainKeys``.
        merge_key: which field tells list elements apart.
    """

    type: str
    struct: Struct | None = None
    item: Field | None = None
    strategies: tuple[str, ...] = ()
    merge_key: str = ""


@dataclass(slots=True)
class Struct:
    """A type with named fields, and the fast check compiled for it."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)

    def clean(self, value: Any) -> bool:
        """Whether every field is known, of its type, not null and canonical."""
        if type(value) is not dict:
            return False
        checks = self.checks
        for key, item in value.items():
            check = checks.get(key)
            if check is str:
                if type(item) is not str:
                    return False
            elif check is None or not check(item):
                return False
        return True


@cache
def structs() -> dict[str, Struct]:
    """Every type by its short name, such as ``core.v1.Pod``."""
    source = files("kedge.api") / "generated" / "schema.json"
    raw: dict[str, dict[str, Any]] = json.loads(source.read_text(encoding="utf-8"))
    table = {name: Struct(name) for name in raw}
    for name, fields in raw.items():
        for key, described in fields.items():
            one = _field(described, table)
            table[name].fields[key] = one
            table[name].checks[key] = _check(one)
    return table


def struct(definition: str) -> Struct:
    """The type of an OpenAPI definition."""
    return structs()[
        definition.removeprefix("io.k8s.api.").removeprefix("io.k8s.apimachinery.pkg.apis.")
    ]


def _field(described: Any, table: dict[str, Struct]) -> Field:
    if isinstance(described, list):
        kind, strategies, merge_key = described
        one = _field(kind, table)
        one.strategies, one.merge_key = tuple(strategies.split(",")), merge_key
        return one
    if described.startswith("[]"):
        return Field("list", item=_field(described[2:], table))
    if described.startswith("map[string]"):
        return Field("map", item=_field(described[11:], table))
    if described in table:
        return Field("struct", struct=table[described])
    return Field(described)


def _check(one: Field) -> Any:
    if one.type == "struct":
        return _shape(one).clean
    if one.type == "list":
        return _check_list(_check(_item(one)))
    if one.type == "map":
        return _check_map(_check(_item(one)))
    return _SCALARS[one.type]


def _item(one: Field) -> Field:
    if one.item is None:
        raise AssertionError("only lists and maps have elements")
    return one.item


def _shape(one: Field) -> Struct:
    if one.struct is None:
        raise AssertionError("only structs have fields")
    return one.struct


def _check_list(check: Any) -> Check:
    if check is str:
        return lambda value: type(value) is list and all(type(item) is str for item in value)
    return lambda value: type(value) is list and all(map(check, value))


def _check_map(check: Any) -> Check:
    if check is str:
        return lambda value: (
            type(value) is dict and all(type(item) is str for item in value.values())
        )
    return lambda value: type(value) is dict and all(map(check, value.values()))


def _is_quantity(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        return quantities.canonical(value) == value
    except BadRequest:
        return False


def _is_base64(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


_SCALARS: dict[str, Any] = {
    "string": str,
    "integer": lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: type(value) is bool,
    "quantity": _is_quantity,
    "int-or-string": lambda value: type(value) in (int, str),
    "time": lambda value: type(value) is str and _TIME.match(value) is not None,
    "bytes": _is_base64,
    "any": lambda value: value is not None,
}
_WANTED = {
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "time": "time",
    "bytes": "base64 text",
}


def decode(shape: Struct, document: dict[str, Any]) -> list[str]:
    """Brings a parsed document into the form that is stored, in place.

    Args:
        shape: what it should be.
        document: what came.

    Returns:
        The paths of fields that are not known; they are gone from the document.

    Raises:
        BadRequest: a value has the wrong type.
    """
    if shape.clean(document):
        return []
    unknown: list[str] = []
    _normalize_struct(shape, document, "", unknown)
    return unknown


def _normalize_struct(shape: Struct, value: Any, path: str, unknown: list[str]) -> Any:
    if type(value) is not dict:
        raise _mismatch(shape.name, value, path)
    for key in list(value):
        one = shape.fields.get(key)
        if one is None:
            unknown.append(f"{path}.{key}" if path else key)
            del value[key]
        elif value[key] is None:
            del value[key]
        else:
            value[key] = _normalize(one, value[key], f"{path}.{key}" if path else key, unknown)
    return value


def _normalize(one: Field, value: Any, path: str, unknown: list[str]) -> Any:
    match one.type:
        case "struct":
            return _normalize_struct(_shape(one), value, path, unknown)
        case "list":
            if type(value) is not list:
                raise _mismatch("array", value, path)
            item = _item(one)
            return [
                _normalize_item(item, inner, f"{path}[{index}]", unknown)
                for index, inner in enumerate(value)
            ]
        case "map":
            if type(value) is not dict:
                raise _mismatch("object", value, path)
            item = _item(one)
            return {
                key: _normalize_item(item, inner, f"{path}.{key}", unknown)
                for key, inner in value.items()
            }
        case "quantity":
            return _quantity(value, path)
        case _:
            check = _SCALARS[one.type]
            if type(value) is not str if check is str else not check(value):
                raise _mismatch(_WANTED.get(one.type, one.type), value, path)
            return value


def _normalize_item(item: Field, value: Any, path: str, unknown: list[str]) -> Any:
    """An element; a null stands for the empty value of its type, as in Go."""
    if value is None:
        empty: dict[str, Any] = {
            "struct": {},
            "string": "",
            "integer": 0,
            "boolean": False,
            "bytes": "",
            "list": [],
            "map": {},
        }
        if item.type not in empty:
            raise _mismatch(item.type, value, path)
        return empty[item.type]
    return _normalize(item, value, path, unknown)


def _quantity(value: Any, path: str) -> str:
    if type(value) in (int, float):
        value = f"{value:f}".rstrip("0").rstrip(".") if type(value) is float else str(value)
    if type(value) is not str:
        raise _mismatch("quantity", value, path)
    try:
        return quantities.canonical(value)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error.message}") from error


def _mismatch(wanted: str, value: Any, path: str) -> BadRequest:
    names = {
        dict: "object",
        list: "array",
        str: "string",
        bool: "bool",
        int: "number",
        float: "number",
    }
    got = names.get(type(value), "null")
    return BadRequest(
        f"json: cannot unmarshal {got} into Go struct field {path or '(root)'} of type {wanted}"
    )


def duplicates(body: bytes, compact: bytes) -> list[str]:
    """Paths of keys that occur twice in one object of ``body``.

    A parser keeps one of two equal keys, so the document written again has fewer. Counting
    key endings tells that without a second parse; only a difference is looked into.

    Args:
        body: what came.
        compact: the parsed document, written again without spaces.
    """
    if body.count(b'":') == compact.count(b'":') and not _SPACED_KEY.search(body):
        return []
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            keys = [key for key, _ in items]
            result[""] = _Twice(sorted({key for key in keys if keys.count(key) > 1}))
        return result

    found.extend(_twice(json.loads(body, object_pairs_hook=pairs), ""))
    return found


@dataclass(frozen=True, slots=True)
class _Twice:
    keys: list[str]


def _twice(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, _Twice):
                yield from (f"{path}.{name}" if path else name for name in inner.keys)
            else:
                yield from _twice(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _twice(inner, f"{path}[{index}]")
