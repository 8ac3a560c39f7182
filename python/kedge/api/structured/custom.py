# SPDX-License-Identifier: Apache-2.0
"""Types of custom resources, from the structural schemas of their definitions.

Objects of these have no Go type: nothing is there before it is set, and what a schema leaves open is whatever its
value shows.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from kedge.api.structured import types
from kedge.api.structured.types import ANY, UNTYPED, Type

Object = dict[str, Any]

KEPT = 16
"""Types that are held, the least recently used goes first; each holds its schema."""
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_SCALARS = {
    "boolean": Type("scalar", "boolean"),
    "integer": Type("scalar", "numeric"),
    "number": Type("scalar", "numeric"),
    "string": Type("scalar", "string"),
}


class Types:
    """The types of schemas, made once for each."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Object, Type]] = OrderedDict()

    def of(self, schema: Object) -> Type:
        """The type of whole objects with a schema."""
        found = self._known.get(id(schema))
        if found is None:
            found = self._known[id(schema)] = (schema, whole(schema))
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(id(schema))
        return found[1]


def whole(schema: Object) -> Type:
    """The type of objects that have metadata."""
    made = of(schema)
    if made.form != "map":
        made = Type("map", item=ANY)
    text = _SCALARS["string"]
    fields = {**made.fields, "apiVersion": text, "kind": text, "metadata": types.of(_METADATA)}
    return Type("map", fields=fields, item=made.item, atomic=made.atomic)


def of(schema: Object) -> Type:
    """The type of a value with a schema."""
    if schema.get("x-kubernetes-int-or-string"):
        return UNTYPED
    if schema.get("x-kubernetes-embedded-resource"):
        return whole({**schema, "x-kubernetes-embedded-resource": False})
    kind = schema.get("type")
    if kind == "object":
        return _map(schema)
    if kind == "array":
        return _list(schema)
    return _SCALARS.get(kind or "", ANY)


def _map(schema: Object) -> Type:
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    item = of(more) if type(more) is dict else None
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or more is True
    if item is None and (is_open or not properties):
        item = ANY
    fields = {name: of(known) for name, known in properties.items()}
    return Type(
        "map", fields=fields, item=item, atomic=schema.get("x-kubernetes-map-type") == "atomic"
    )


def _list(schema: Object) -> Type:
    described = schema.get("items")
    described = described if type(described) is dict else {}
    item = of(described)
    how = schema.get("x-kubernetes-list-type", "atomic")
    if how != "map":
        return Type("list", item=item, atomic=how != "set")
    keys = tuple(sorted(schema.get("x-kubernetes-list-map-keys") or ()))
    properties = described.get("properties") or {}
    defaults = {
        key: properties[key]["default"]
        for key in keys
        if (properties.get(key) or {}).get("default") is not None
    }
    return Type("list", item=item, keys=keys, defaults=defaults)
