# SPDX-License-Identifier: Apache-2.0
"""The API's refusals in upstream's words, as exceptions that carry ``Status.details``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.errors import AlreadyExists, Conflict, Forbidden, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

STALE = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def details(kind: Kind, name: str) -> dict[str, object]:
    """The ``Status.details`` of an object."""
    result: dict[str, object] = {"name": name, "kind": kind.resource}
    if kind.group:
        result["group"] = kind.group
    return result


def not_found(kind: Kind, name: str) -> NotFound:
    """There is no such object."""
    return NotFound(f'{kind.group_resource} "{name}" not found', details(kind, name))


def already_exists(kind: Kind, name: str) -> AlreadyExists:
    """There is one already."""
    return AlreadyExists(f'{kind.group_resource} "{name}" already exists', details(kind, name))


def conflict(kind: Kind, name: str, why: str = STALE) -> Conflict:
    """The object is not as the writer thought."""
    return Conflict(
        f'Operation cannot be fulfilled on {kind.group_resource} "{name}": {why}',
        details(kind, name),
    )


def forbidden(kind: Kind, name: str, why: str) -> Forbidden:
    """Admission refuses."""
    return Forbidden(f'{kind.group_resource} "{name}" is forbidden: {why}', details(kind, name))


def unsupported(kind: Kind, verb: str) -> MethodNotAllowed:
    """The resource does not have that verb."""
    return MethodNotAllowed(f"{verb} is not supported on resources of kind {kind.group_resource!r}")
