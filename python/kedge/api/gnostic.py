# SPDX-License-Identifier: Apache-2.0
"""OpenAPI v2 as protobuf, which older kubectl releases read and nothing else.

The messages are gnostic's ``OpenAPIv2.proto``. ``MESSAGES`` gives, for each message, the number and
the type of every field that our documents use; ``encode`` walks a document by it. Extensions
(``x-...``) are written as YAML text, for which JSON does. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

Fields = dict[str, tuple[int, str]]

MESSAGES: dict[str, Fields] = {
    "Document": {
        "swagger": (1, "string"), "info": (2, "Info"), "schemes": (5, "strings"), "consumes": (6, "strings"),
        "produces": (7, "strings"), "paths": (8, "Paths"), "definitions": (9, "Definitions"),
    },
    "Info": {"title": (1, "string"), "version": (2, "string"), "description": (3, "string")},
    "PathItem": {
        "get": (2, "Operation"), "put": (3, "Operation"), "post": (4, "Operation"), "delete": (5, "Operation"),
        "patch": (8, "Operation"), "parameters": (9, "parameters"), "x-": (10, "extension"),
    },
    "Operation": {
        "tags": (1, "strings"), "summary": (2, "string"), "description": (3, "string"), "operationId": (5, "string"),
        "produces": (6, "strings"), "consumes": (7, "strings"), "parameters": (8, "parameters"),
        "responses": (9, "Responses"), "schemes": (10, "strings"), "x-": (13, "extension"),
    },
    "BodyParameter": {
        "description": (1, "string"), "name": (2, "string"), "in": (3, "string"), "required": (4, "bool"),
        "schema": (5, "Schema"),
    },
    "QueryParameter": {
        "required": (1, "bool"), "in": (2, "string"), "description": (3, "string"), "name": (4, "string"),
        "type": (6, "string"), "format": (7, "string"), "uniqueItems": (18, "bool"),
    },
    "PathParameter": {
        "required": (1, "bool"), "in": (2, "string"), "description": (3, "string"), "name": (4, "string"),
        "type": (5, "string"), "format": (6, "string"), "uniqueItems": (17, "bool"),
    },
    "Response": {"description": (1, "string"), "schema": (2, "SchemaItem"), "x-": (5, "extension")},
    "Schema": {
        "$ref": (1, "string"), "format": (2, "string"), "title": (3, "string"), "description": (4, "string"),
        "default": (5, "any"), "pattern": (13, "string"), "required": (19, "strings"), "enum": (20, "anys"),
        "additionalProperties": (21, "AdditionalProperties"), "type": (22, "TypeItem"), "items": (23, "ItemsItem"),
        "allOf": (24, "Schemas"), "properties": (25, "Properties"), "x-": (31, "extension"),
    },
}  # fmt: skip


def encode(document: dict[str, Any]) -> bytes:
    """An OpenAPI v2 document as gnostic's ``Document``.

    Raises:
        KeyError: the document has a field that the table does not know.
    """
    return _message("Document", document)


def _message(name: str, value: dict[str, Any]) -> bytes:
    fields = MESSAGES[name]
    parts: list[bytes] = []
    for key, inner in value.items():
        if key.startswith("x-"):
            parts.append(_length(fields["x-"][0], _named(key, _any(inner))))
        else:
            number, kind = fields[key]
            parts.append(
                _WRITERS[kind](number, inner)
                if kind in _WRITERS
                else _length(number, _message(kind, inner))
            )
    return b"".join(parts)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _length(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _string(number: int, value: str) -> bytes:
    return _length(number, value.encode())


def _strings(number: int, values: list[str]) -> bytes:
    return b"".join(_string(number, value) for value in values)


def _bool(number: int, value: bool) -> bytes:  # noqa: FBT001 - a value on the wire
    return _varint(number << 3) + (b"\x01" if value else b"\x00")


def _any(value: Any) -> bytes:
    return _string(2, json.dumps(value, separators=(",", ":")))


def _named(name: str, value: bytes) -> bytes:
    return _string(1, name) + _length(2, value)


def _parameters(number: int, values: list[dict[str, Any]]) -> bytes:
    """``ParametersItem{parameter}`` of ``Parameter{body_parameter | non_body_parameter}``."""
    parts = []
    for value in values:
        if value["in"] == "body":
            parameter = _length(1, _message("BodyParameter", value))
        elif value["in"] == "query":
            parameter = _length(2, _length(3, _message("QueryParameter", value)))
        else:
            parameter = _length(2, _length(4, _message("PathParameter", value)))
        parts.append(_length(number, _length(1, parameter)))
    return b"".join(parts)


def _paths(number: int, values: dict[str, Any]) -> bytes:
    items = (
        _length(2, _named(path, _message("PathItem", value))) for path, value in values.items()
    )
    return _length(number, b"".join(items))


def _schemas_by_name(number: int, values: dict[str, Any]) -> bytes:
    items = (_length(1, _named(name, _message("Schema", value))) for name, value in values.items())
    return _length(number, b"".join(items))


def _responses(number: int, values: dict[str, Any]) -> bytes:
    items = (
        _length(1, _named(code, _length(1, _message("Response", value))))
        for code, value in values.items()
    )
    return _length(number, b"".join(items))


def _schema(number: int, value: dict[str, Any]) -> bytes:
    return _length(number, _length(1, _message("Schema", value)))


def _additional(number: int, value: Any) -> bytes:
    if isinstance(value, bool):
        return _length(number, _bool(2, value))
    return _schema(number, value)


_WRITERS: dict[str, Callable[[int, Any], bytes]] = {
    "string": _string,
    "strings": _strings,
    "bool": _bool,
    "any": lambda number, value: _length(number, _any(value)),
    "anys": lambda number, values: b"".join(_length(number, _any(value)) for value in values),
    "parameters": _parameters,
    "Paths": _paths,
    "Definitions": _schemas_by_name,
    "Properties": _schemas_by_name,
    "Responses": _responses,
    "SchemaItem": _schema,
    "ItemsItem": _schema,
    "AdditionalProperties": _additional,
    "Schemas": lambda number, values: b"".join(
        _length(number, _message("Schema", value)) for value in values
    ),
    "TypeItem": lambda number, value: _length(number, _string(1, value)),
}
