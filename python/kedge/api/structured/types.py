# SPDX-License-Identifier: Apache-2.0
"""How values are built, for structured merge, and the elements of paths that follow from it.

A ``Type`` comes from Kubernetes' own schemas here (``of``), or from anything else that knows the same of its
values, such as the schema of a CRD. Lists are atomic unless something else is said, structs and maps granular.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from kedge.api import schema
from kedge.api.structured.sets import dump

if TYPE_CHECKING:
    from kedge.api.schema import Field, Struct


@dataclass(slots=True, eq=False)
class Type:
    """How a value is built.

    Attributes:
        form: ``scalar``, ``map``, ``list``, or ``any`` for what the value itself shows.
        scalar: ``string``, ``numeric``, ``boolean`` or ``untyped``.
        fields: the named fields of a struct.
        item: what elements of a list, and values of a map that are no named fields, are.
        atomic: whether it has one owner and is replaced as a whole.
        keys: the fields that tell elements of a list apart; none for a set.
        defaults: what such a key is when it is left out.
        always: the fields that Go's empty value has too: nobody adds them.
        is_leaf: whether nothing below it has an owner of its own; follows from the rest.
    """

    form: str
    scalar: str = ""
    fields: dict[str, Type] = field(default_factory=dict)
    item: Type | None = None
    atomic: bool = False
    keys: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    always: frozenset[str] = frozenset()
    is_leaf: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_leaf = self.atomic or self.form == "scalar"


UNTYPED = Type("scalar", "untyped")
ANY = Type("any")
OPAQUE = Type("any", atomic=True)
_ANY_MAP = Type("map", item=ANY)
_ANY_LIST = Type("list", item=ANY, atomic=True)
_PLAIN = {
    "string": Type("scalar", "string"),
    "bytes": Type("scalar", "string"),
    "integer": Type("scalar", "numeric"),
    "number": Type("scalar", "numeric"),
    "boolean": Type("scalar", "boolean"),
    "any": Type("map", item=UNTYPED),
    "json": OPAQUE,
}


def resolved(kind: Type, value: Any) -> Type:
    """The type of a value, where the value has to show it."""
    if kind.form != "any" or kind.atomic:
        return kind
    if type(value) is dict:
        return _ANY_MAP
    return _ANY_LIST if type(value) is list else UNTYPED


def child(kind: Type, name: str) -> Type:
    """The type of a field or of a map's value; anything where nothing is declared."""
    found = kind.fields.get(name)
    if found is not None:
        return found
    return kind.item or ANY


class KeylessError(ValueError):
    """An element of a list cannot be told apart from others."""


def element(kind: Type, item: Any) -> str:
    """The path element of an element of a list.

    Raises:
        KeylessError: it has none.
    """
    if kind.keys:
        return _keyed(kind, item)
    if type(item) is str:
        return f"v:{_string(item)}"
    if type(item) is dict:
        raise KeylessError("associative list without keys has an element that's a map type")
    if type(item) is list:
        raise KeylessError("not supported: associative list with lists as elements")
    if item is None:
        raise KeylessError("associative list without keys has an element that's an explicit null")
    return f"v:{dump(item)}"


def _keyed(kind: Type, item: Any) -> str:
    if type(item) is not dict:
        what = "a null element" if item is None else "non-map elements"
        raise KeylessError(f"associative list with keys may not have {what}")
    text = "k:{"
    for key in kind.keys:
        value = item.get(key, item)
        if value is item:
            if key not in kind.defaults:
                message = f'associative list with keys has an element that omits key field "{key}" (and doesn\'t have default value)'
                raise KeylessError(message)
            value = kind.defaults[key]
        text += f'"{key}":{_string(value) if type(value) is str else dump(value)},'
    return text[:-1] + "}"


def _string(value: str) -> str:
    if "<" in value or ">" in value or "&" in value:
        return dump(value)
    return encode_basestring(value)


@cache
def _structure() -> dict[str, dict[str, str]]:
    source = files("kedge.api") / "generated" / "structure.json"
    found: dict[str, dict[str, str]] = json.loads(source.read_text(encoding="utf-8"))
    return found


@cache
def of(definition: str) -> Type:
    """The type of a definition of Kubernetes' OpenAPI."""
    return _struct(schema.struct(definition), _TYPES)


_TYPES: dict[tuple[str, bool], Type] = {}


def _struct(shape: Struct, known: dict[tuple[str, bool], Type], how: str = "") -> Type:
    """A struct's type; each is made once, also where structs contain themselves."""
    said = _structure().get(shape.name, {})
    atomic = (how or said.get("", "")) == "atomic"
    found = known.get((shape.name, atomic))
    if found is not None:
        return found
    made = known[shape.name, atomic] = Type("map", atomic=atomic)
    made.always = frozenset(name for name, words in said.items() if "always" in words.split())
    for name, one in shape.fields.items():
        words = said.get(name, "").replace("always", "").strip()
        made.fields[name] = _field(one, known, words)
    return made


def _field(one: Field, known: dict[tuple[str, bool], Type], how: str = "") -> Type:
    if one.struct is not None:
        return _struct(one.struct, known, how)
    if one.item is None:
        return _PLAIN.get(one.type, UNTYPED)
    item = _field(one.item, known)
    if one.type == "map":
        return Type("map", item=item, atomic=how == "atomic")
    if how.startswith("keys="):
        pairs = sorted(part.partition(":") for part in how[5:].split(","))
        defaults = {name: value for name, colon, value in pairs if colon}
        return Type("list", item=item, keys=tuple(name for name, _, _ in pairs), defaults=defaults)
    return Type("list", item=item, atomic=how != "set")
