# SPDX-License-Identifier: Apache-2.0
"""Whose fields are whose, as writes go through: ``metadata.managedFields`` kept as kube-apiserver keeps it.

The rules are ``kedge.api.structured``'s; here is when they run, for whom, and on what. ``_RESET`` has the
fields that a way of writing cannot set, which nobody comes to own by it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.meta import timestamp
from kedge.api.structured import entries as managed
from kedge.api.structured import managers, sets, types
from kedge.api.structured.compare import Changes, compare
from kedge.api.structured.managers import NOT_OWNED, ConflictsError, Writer
from kedge.api.structured.problems import describe
from kedge.api.structured.types import KeylessError
from kedge.api.validation import Problems
from kedge.errors import ApiError, BadRequest, Conflict, Unexplained

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.api.kinds import Kind
    from kedge.api.structured.entries import Entry
    from kedge.api.structured.sets import Fields
    from kedge.api.structured.types import Type
    from kedge.cluster.apiserver.bodies import WriteOptions

Object = dict[str, Any]

MAX_MANAGER_BYTES = 128
REMEMBERED = 64
"""So many parts of objects have their fields remembered, each of at most ``REMEMBERED_BYTES``."""
REMEMBERED_BYTES = 4096
_STATUS: Fields = {"f:status": {}}
_SPEC: Fields = {"f:spec": {}}
_SPEC_AND_METADATA: Fields = {"f:metadata": {}, "f:spec": {}}
_RESET: dict[tuple[str, str, str], Fields] = {
    ("", "namespaces", "finalize"): _STATUS,
    ("", "pods", "status"): {
        "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}},
        "f:spec": {},
    },
    ("apiextensions.k8s.io", "customresourcedefinitions", "status"): _SPEC_AND_METADATA,
    ("apiregistration.k8s.io", "apiservices", "status"): _SPEC_AND_METADATA,
    ("apps", "deployments", "status"): {"f:metadata": {"f:labels": {}}, "f:spec": {}},
    ("certificates.k8s.io", "certificatesigningrequests", "approval"): {
        "f:spec": {},
        "f:status": {"f:certificate": {}},
    },
    ("certificates.k8s.io", "certificatesigningrequests", "status"): {
        "f:spec": {},
        "f:status": {"f:conditions": {}},
    },
    ("storage.k8s.io", "volumeattachments", "status"): _SPEC_AND_METADATA,
}
_ANY = "*"
_RESIZED: Fields = {_ANY: {"f:resizePolicy": {}, "f:resources": {}}}
_ONLY: dict[str, Fields] = {
    "ephemeralcontainers": {"f:spec": {"f:ephemeralContainers": {}}},
    "resize": {
        "f:spec": {"f:containers": _RESIZED, "f:initContainers": _RESIZED, "f:resources": {}}
    },
    "scale": {"f:spec": {"f:replicas": {}}},
}


@cache
def owns(kind: Kind, subresource: str) -> Callable[[Fields], Fields]:
    """What of a set of fields somebody can come to own who writes in this way."""
    only = _ONLY.get(subresource)
    if only is not None:
        return lambda fields: _matching(fields, only)
    by_default: Fields = {}
    if kind.has_status:
        by_default = _SPEC if subresource == "status" else _STATUS
    reset = _RESET.get((kind.group, kind.resource, subresource), by_default)
    if not reset:
        return lambda fields: fields
    return lambda fields: sets.deep_difference(fields, reset) if fields else fields


def _matching(fields: Fields, pattern: Fields) -> Fields:
    """The elements on the way to a pattern's ends, and all that is below those."""
    result: Fields = {}
    for name, node in fields.items():
        if name == sets.SELF:
            result[name] = node
            continue
        below = pattern.get(name, pattern.get(_ANY) if name[0] == "k" else None)
        if below is None:
            continue
        kept = _matching(node, below) if below and node else node
        if kept or not node:
            result[name] = kept
    return result


def type_of(kind: Kind) -> Type:
    """How objects of a kind are built."""
    return types.of(kind.definition)


_OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}


def check_manager(method: str, name: str, force: str | None, *, is_apply: bool) -> None:
    """Refuses a manager's name, or a use of force, that cannot be.

    Raises:
        Invalid: it is too long, not printable, or not there for an apply.
    """
    problems = Problems()
    if is_apply and not name:
        problems.required("fieldManager", "is required for apply patch")
    if not is_apply and force is not None:
        problems.forbidden("force", "may not be specified for non-apply patch")
    if len(name.encode()) > MAX_MANAGER_BYTES:
        problems.too_long("fieldManager", MAX_MANAGER_BYTES)
    place = 0
    for mark in name:
        if not mark.isprintable():
            shown = f"U+{ord(mark):04X} (at position {place})"
            problems.invalid("fieldManager", name, f"invalid character {shown}")
        place += len(mark.encode())
    problems.raise_for("meta.k8s.io", _OPTIONS.get(method, "DeleteOptions"), "")


def manager_name(field_manager: str, agent: str) -> str:
    """The manager of a request: the one it names, or the program that sends it."""
    if field_manager:
        return field_manager
    name = ""
    for mark in agent.partition("/")[0]:
        if not mark.isprintable():
            continue
        if len((name + mark).encode()) > MAX_MANAGER_BYTES:
            break
        name += mark
    return name


def _writer(kind: Kind, subresource: str, options: WriteOptions) -> Writer:
    return Writer(
        options.manager, kind.api_version, timestamp(), subresource, owns(kind, subresource)
    )


def created(kind: Kind, obj: Object, options: WriteOptions) -> None:
    """Sets the owners of a new object: whoever makes it.

    Objects are made by the thousand from one template, so what was found in a part of one serves the next.
    """
    metadata = obj["metadata"]
    sent = metadata.pop("managedFields", None)
    entries = (_sent(sent) or []) if sent else []
    try:
        changes = Changes(_set_in(kind, obj), {})
    except KeylessError:
        return  # as upstream: what cannot be told apart is not tracked
    _set(metadata, managers.update(entries, changes, _writer(kind, "", options)))


def _set_in(kind: Kind, obj: Object) -> Fields:
    metadata = obj["metadata"]
    shape = type_of(kind)
    changed: Fields = {}
    for key in sorted(obj):
        if key in ("apiVersion", "kind"):
            continue
        found: Fields | None
        if key == "metadata":
            set_by_clients = {name: metadata[name] for name in metadata if name not in NOT_OWNED}
            found = compare(shape.fields[key], {}, set_by_clients).changed or None
        else:
            found = _added(kind.definition, key, orjson.dumps(obj[key]))
        if found is not None:
            changed["f:" + key] = found
    return changed


@lru_cache(maxsize=REMEMBERED)
def _remembered(definition: str, key: str, value: bytes) -> Fields | None:
    kind = types.of(definition)
    return compare(kind, {}, {key: orjson.loads(value)}).changed.get("f:" + key)


def _added(definition: str, key: str, value: bytes) -> Fields | None:
    """The fields of a part of a new object; None when nobody sets any."""
    if len(value) > REMEMBERED_BYTES:
        return _remembered.__wrapped__(definition, key, value)
    return _remembered(definition, key, value)


def updated(kind: Kind, new: Object, old: Object, options: WriteOptions, subresource: str) -> None:
    """Sets the owners after an update or a patch, of the object or through a subresource."""
    metadata = new["metadata"]
    live = old["metadata"].get("managedFields")
    sent = metadata.pop("managedFields", None)
    entries: list[Entry] | None = None
    if not subresource:
        if managed.is_reset(sent):
            return  # nobody is asked, and nothing is tracked until the next apply
        entries = None if sent == live else _sent(sent)
    entries = entries or managed.stored(live)
    if not entries:
        return
    try:
        changes = compare(type_of(kind), old, new)
    except KeylessError:
        metadata["managedFields"] = live
        return
    writer = _writer(kind, subresource, options)
    if subresource == "scale":
        writer = writer._replace(now="")
    _set(metadata, managers.update(entries, changes, writer))


def status_written(kind: Kind, obj: Object, before: Any, options: WriteOptions) -> None:
    """``updated`` for a write that set nothing but the status."""
    metadata = obj["metadata"]
    entries = managed.stored(metadata.get("managedFields"))
    if not entries:
        return
    inner = type_of(kind).fields["status"]
    try:
        changed, removed = compare(inner, before or {}, obj["status"])
    except KeylessError:
        return
    changes = Changes(
        {"f:status": changed} if changed else {}, {"f:status": removed} if removed else {}
    )
    _set(metadata, managers.update(entries, changes, _writer(kind, "status", options)))


def applied(
    kind: Kind, live: Object, config: Object, options: WriteOptions, subresource: str
) -> Object:
    """An object with a configuration applied, and its owners set.

    Args:
        kind: the object's kind.
        live: the object as stored; empty when there is none.
        config: what is applied; it is not changed.
        options: who applies, and whether by force.
        subresource: what it is applied to, if not the object.

    Raises:
        Conflict: others own what would change.
        Unexplained: elements of a list of the stored object cannot be told apart.
    """
    metadata = dict(live.get("metadata") or {})
    entries = managed.stored(metadata.pop("managedFields", None))
    plain = {**live, "metadata": metadata} if live else {}
    writer = _writer(kind, subresource, options)
    try:
        new, owners = managers.apply(
            type_of(kind), plain, config, entries, writer, force=options.force
        )
    except ConflictsError as error:
        raise _conflict(error) from None
    except KeylessError as error:
        raise Unexplained(f"failed to create typed live object: {error}") from error
    new["metadata"] = dict(new.get("metadata") or {})
    _set(new["metadata"], owners)
    return new


def check_config(kind: Kind, config: Object) -> None:
    """Refuses what cannot be applied to a kind.

    Raises:
        BadRequest: it is of another type, or says who owns what.
        ApiError: it does not fit the kind's schema.
    """
    group, _, version = str(config.get("apiVersion") or "").rpartition("/")
    got = f"{group}/{version}, Kind={config.get('kind') or ''}"
    wanted = f"{kind.group}/{kind.version}, Kind={kind.kind}"
    if got != wanted:
        raise BadRequest(f"invalid object type: {got}")
    metadata = config.get("metadata")
    metadata = metadata if type(metadata) is dict else {}
    if metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    found = describe(type_of(kind), config)
    if found:
        name = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
        raise Unexplained(f"failed to create typed patch object ({name}; {wanted}): {found}")


def _sent(sent: Any) -> list[Entry] | None:
    """What a client says of the owners; None when it says nothing that can be used."""
    if not sent or managed.is_reset(sent):
        return None
    try:
        return managed.read(sent)
    except (ValueError, TypeError, RecursionError):
        return None


def _set(metadata: Object, entries: list[Entry]) -> None:
    if entries:
        metadata["managedFields"] = managed.written(entries)
    else:
        metadata.pop("managedFields", None)


def _conflict(error: ConflictsError) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {entry.shown}",
            "field": sets.text(path),
        }
        for entry, path in error.conflicts
    ]
    return Conflict(str(error), {"causes": causes})
