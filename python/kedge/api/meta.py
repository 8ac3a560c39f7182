# SPDX-License-Identifier: Apache-2.0
"""Small helpers on object metadata: times, keys, owners, finalizers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.api.kinds import Kind

Object = dict[str, Any]

ORPHAN_FINALIZER = "orphan"
FOREGROUND_FINALIZER = "foregroundDeletion"


def timestamp(seconds: float | None = None) -> str:
    """A ``Time`` as Kubernetes writes it: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def new_uid() -> str:
    """A random UID (RFC 9562, version 4)."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def key_of(kind: Kind, obj: Mapping[str, Any]) -> ObjectKey:
    """The key of an object of a kind."""
    metadata = obj["metadata"]
    return ObjectKey(
        kind.group,
        kind.resource,
        metadata.get("namespace", "") if kind.namespaced else "",
        metadata["name"],
    )


def reference(kind: Kind, obj: Mapping[str, Any]) -> Object:
    """An ``ObjectReference`` to an object."""
    metadata = obj["metadata"]
    result = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
    }
    return {field: value for field, value in result.items() if value}


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """The owner reference that controls an object, if any."""
    owners: list[Object] = obj["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def is_terminating(obj: Mapping[str, Any]) -> bool:
    """Whether the object's deletion has begun."""
    return "deletionTimestamp" in obj["metadata"]
