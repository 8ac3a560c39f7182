# SPDX-License-Identifier: Apache-2.0
"""The record of an object of which only the name is held: it is looked up when it is worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Key


class Named(Struct, weakref=False):
    """An object's name."""

    namespace: str
    name: str
    uid: str
    version: int

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class _Metadata(Struct):
    name: str
    namespace: str = ""
    uid: str = ""


class _Object(Struct):
    metadata: _Metadata


_objects = msgspec.json.Decoder(_Object)


def named_of(value: bytes, version: int) -> Named:
    """The record of any object."""
    metadata = _objects.decode(value).metadata
    return Named(metadata.namespace, metadata.name, metadata.uid, version)
