# SPDX-License-Identifier: Apache-2.0
"""What is in a request to write: its body read, checked against its kind, and put in its place; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import schema, validation
from kedge.cluster.apiserver import failures
from kedge.errors import BadRequest

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.access import User

Object = dict[str, Any]


@dataclass(slots=True)
class WriteOptions:
    """How to write, and what to tell about it.

    Attributes:
        dry_run: decide everything, store nothing.
        strict: what happens to unknown fields: ``Ignore``, ``Warn`` or ``Strict``.
        user: on whose behalf; none is kedge itself.
        manager: who comes to own the fields that are set.
        force: whether an apply takes what others own.
        warnings: texts for the client; filled in.
    """

    dry_run: bool = False
    strict: str = "Ignore"
    user: User | None = None
    manager: str = ""
    force: bool = False
    warnings: list[str] = field(default_factory=list)


OWN = WriteOptions(manager="kube-apiserver")
"""How the API server writes what it makes itself."""


def parse(body: bytes) -> Any:
    """A JSON document.

    Raises:
        BadRequest: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body of the request is not JSON: {error}") from error


def typed(kind: Kind, obj: Object) -> Object:
    """The object with its type first, as the store's readers like it."""
    for name, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        got = obj.get(name)
        if got not in (None, "", wanted):
            what = "API version" if name == "apiVersion" else "kind"
            raise BadRequest(
                f"the {what} in the data ({got}) does not match the expected {what} ({wanted})"
            )
    return {"kind": kind.kind, "apiVersion": kind.api_version, **_rest(obj)}


def _rest(obj: Object) -> Object:
    obj.pop("kind", None)
    obj.pop("apiVersion", None)
    return obj


def metadata_of(obj: Object) -> Object:
    """The metadata, made if there is none.

    Raises:
        BadRequest: it is not an object.
    """
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if type(metadata) is not dict:
        raise BadRequest("metadata: wanted an object")
    return metadata


def decode(kind: Kind, obj: Object, options: WriteOptions) -> None:
    """Checks the object against its kind's schema; fields that it does not have are dropped.

    Raises:
        BadRequest: a field has the wrong type, or is unknown and that is refused.
    """
    try:
        unknown = schema.decode(schema.struct(kind.definition), obj)
    except BadRequest as error:
        version = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
        raise BadRequest(f"{version}: {error.message}") from error
    report(unknown, options)


def report(unknown: list[str], options: WriteOptions, prefix: str = "") -> None:
    """Tells of unknown fields as the client wants it."""
    if not unknown or options.strict == "Ignore":
        return
    texts = [f'unknown field "{prefix}{path}"' for path in unknown]
    if options.strict == "Strict":
        raise BadRequest(f"strict decoding error: {', '.join(texts)}")
    options.warnings.extend(text for text in texts if text not in options.warnings)


def place(kind: Kind, key: ObjectKey, metadata: Object) -> None:
    """Gives the object the name and namespace of its request.

    Raises:
        BadRequest: it says another namespace.
    """
    if not kind.namespaced:
        metadata.pop("namespace", None)
    elif metadata.setdefault("namespace", key.namespace) != key.namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if key.name:
        metadata.setdefault("name", key.name)


def check_version(kind: Kind, key: ObjectKey, metadata: Object, version: str) -> None:
    """A patch that sets resourceVersion states the one that it is for."""
    wanted = metadata.get("resourceVersion")
    if wanted not in (None, "", version):
        raise failures.conflict(kind, key.name)


def check_identity(kind: Kind, key: ObjectKey, new: Object) -> None:
    """A patch may not make another object of it.

    Raises:
        Invalid: the name or namespace changed.
        BadRequest: the type did.
    """
    problems = validation.Problems()
    problems.immutable("metadata.name", key.name, new["metadata"].get("name"))
    if kind.namespaced:
        problems.immutable("metadata.namespace", key.namespace, new["metadata"].get("namespace"))
    problems.raise_for(kind.group, kind.kind, key.name)
    if new.get("kind") != kind.kind or new.get("apiVersion") != kind.api_version:
        raise BadRequest(
            f"a patch may not change the type of an object, got: {new.get('apiVersion')} {new.get('kind')}"
        )


def duplicates(raw: bytes, body: Any, options: WriteOptions) -> list[str]:
    """Complaints about keys that are twice in one object of a JSON body, where the client wants them."""
    if options.strict == "Ignore":
        return []
    return [f'duplicate field "{path}"' for path in schema.duplicates(raw, orjson.dumps(body))]
