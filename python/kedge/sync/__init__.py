# SPDX-License-Identifier: Apache-2.0
"""Views and replication: what a node sees, kept equal at both ends.

The work is in Rust (``kedge_core::sync``): the index of views over the mirror, the session, the
versions. Here is what Python may want to know of it: the bytes of an object that a node gets, their
version, the digest of a view; and ``LinkEnd``, the real session without sockets, for tests and tools.
``docs/reference/link.md`` describes the protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge import _core  # noqa: TID251 - this file is the face of _core's sync
from kedge._core import LinkEnd  # noqa: TID251 - this file is the face of _core's sync

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.api.keys import ObjectKey

__all__ = ["LinkEnd", "digest", "project", "version"]


def project(key: ObjectKey, value: bytes) -> bytes | None:
    """The bytes of an object that a node gets, or none when ``value`` is not a JSON object.

    Left out are ``metadata.managedFields``, and of Pods and Nodes also
    ``metadata.resourceVersion`` and ``status`` (a Pod that has ended keeps ``status.phase``).
    """
    return _core.project_object(key, value)


def version(projected: bytes) -> int:
    """The version of those bytes: the same bytes have the same at both ends."""
    return _core.object_version(projected)


def digest(versions: Mapping[ObjectKey, int]) -> tuple[bytes, int]:
    """The digest of a view, from each object's version, and the number of objects."""
    return _core.view_digest(list(versions.items()))
