# SPDX-License-Identifier: Apache-2.0
"""Objects in Kubernetes' protobuf form, as current kubectl releases send them, read into dicts.

``generated/wire.json`` gives, for each type and field number, the JSON name, the type, and whether a
zero value means something (a pointer in Go). What JSON inlines has an empty name. Values without
meaning are left out, as JSON leaves them out. Only reading: answers are JSON, which every client
accepts beside protobuf. Pure.
"""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from kedge.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
MAX_DEPTH = 60
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Object = dict[str, Any]
Row = tuple[str, str, bool]


@cache
def _messages() -> dict[str, dict[int, Row]]:
    source = files("kedge.api") / "generated" / "wire.json"
    raw: dict[str, dict[str, list[str]]] = json.loads(source.read_text(encoding="utf-8"))
    return {
        name: {int(number): (row[0], row[1], len(row) > 2) for number, row in fields.items()}
        for name, fields in raw.items()
    }


def decode(data: bytes) -> Object:
    """The object in a protobuf body, with its ``kind`` and ``apiVersion``.

    Raises:
        BadRequest: it is malformed, or of a type that is not served.
    """
    if not data.startswith(MAGIC):
        raise BadRequest("the body of the request does not begin as protobuf does")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(memoryview(data)[len(MAGIC) :]):
        if number == 1 and isinstance(value, memoryview):
            named = {inner: _text(part) for inner, part in _fields(value)}
            api_version, kind = named.get(1, ""), named.get(2, "")
        elif number == 2 and isinstance(value, memoryview):
            raw = value  # type: ignore[assignment]
    message = _message_of(api_version, kind)
    return {"kind": kind, "apiVersion": api_version, **_message(message, memoryview(raw), 0)}


def _message_of(api_version: str, kind: str) -> str:
    """``apps/v1`` and ``Deployment`` are described as ``apps.v1.Deployment``."""
    if kind == "DeleteOptions":
        return "meta.v1.DeleteOptions"
    group, slash, version = api_version.rpartition("/")
    name = f"{group.partition('.')[0] if slash else 'core'}.{version}.{kind}"
    if name not in _messages():
        raise BadRequest(f"no kind {kind!r} is registered for version {api_version!r}")
    return name


def _message(name: str, data: memoryview, depth: int) -> Object:
    if depth > MAX_DEPTH:
        raise BadRequest(f"the body of the request is nested deeper than {MAX_DEPTH}")
    rows = _messages()[name]
    result: Object = {}
    for number, value in _fields(data):
        row = rows.get(number)
        if row is not None:
            _set(result, row, value, depth)
    return result


def _set(result: Object, row: Row, value: Any, depth: int) -> None:
    name, kind, keeps_zero = row
    if kind.startswith("[]"):
        result.setdefault(name, []).append(_value(kind[2:], value, depth))
    elif kind.startswith("map[string]"):
        key, inner = _entry(kind[11:], value, depth)
        result.setdefault(name, {})[key] = inner
    else:
        decoded = _value(kind, value, depth)
        if not name:
            result.update(decoded)
        elif decoded is not None and (keeps_zero or decoded not in _ZEROS):
            result[name] = decoded


_ZEROS: tuple[Any, ...] = (0, "", False, {})


def _entry(kind: str, value: Any, depth: int) -> tuple[str, Any]:
    key, inner = "", _EMPTY.get(kind)
    for number, part in _fields(_bytes(value)):
        if number == 1:
            key = _text(part)
        elif number == 2:
            inner = _value(kind, part, depth)
    return key, {} if inner is None else inner


_EMPTY: dict[str, Any] = {
    "string": "",
    "bytes": "",
    "int": 0,
    "bool": False,
    "quantity": "0",
    "strings": [],
}


def _value(kind: str, value: Any, depth: int) -> Any:
    reader = _READERS.get(kind)
    return reader(value) if reader is not None else _message(kind, _bytes(value), depth + 1)


def _text(value: Any) -> str:
    try:
        return bytes(_bytes(value)).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the body of the request has text that is not UTF-8") from error


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise BadRequest("the body of the request has bytes where a number is wanted")
    return value - (1 << 64) if value >= 1 << 63 else value


def _time(value: Any) -> str | None:
    parts = {number: _integer(part) for number, part in _fields(_bytes(value))}
    if not parts:
        return None
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    if not 0 <= seconds < 253402300800 or not 0 <= nanos < 1_000_000_000:
        raise BadRequest(f"the body of the request has a time out of range: {seconds}")
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{nanos // 1000:06d}Z" if nanos else f"{whole}Z"


def _int_or_string(value: Any) -> int | str:
    parts = dict(_fields(_bytes(value)))
    return _text(parts[3]) if parts.get(1, 0) == 1 and 3 in parts else _integer(parts.get(2, 0))


def _raw(value: Any) -> Any:
    text = dict(_fields(_bytes(value))).get(1, b"")
    try:
        return json.loads(bytes(text)) if text else None
    except ValueError as error:
        raise BadRequest("the body of the request has a raw part that is not JSON") from error


def _quantity(value: Any) -> str:
    return _text(dict(_fields(_bytes(value))).get(1, memoryview(b"0")))


_READERS: dict[str, Callable[[Any], Any]] = {
    "string": _text,
    "int": _integer,
    "bool": lambda value: _integer(value) != 0,
    "bytes": lambda value: base64.b64encode(_bytes(value)).decode(),
    "time": _time,
    "int-or-string": _int_or_string,
    "quantity": _quantity,
    "raw": _raw,
    "strings": lambda value: [_text(part) for _, part in _fields(_bytes(value))],
}


def _bytes(value: Any) -> memoryview:
    if isinstance(value, int):
        raise BadRequest("the body of the request has a number where bytes are wanted")
    return memoryview(value)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message: numbers as ``int``, everything else as bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, form = tag >> 3, tag & 7
        if form == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if form == _BYTES:
            size, at = _varint(data, at)
        elif form in (_FIXED64, _FIXED32):
            size = 8 if form == _FIXED64 else 4
        else:
            raise BadRequest(f"the body of the request has a field of an unknown form: {form}")
        if at + size > end:
            raise BadRequest("the body of the request is cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise BadRequest("the body of the request is cut short")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
