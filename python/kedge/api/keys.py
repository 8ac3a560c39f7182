# SPDX-License-Identifier: Apache-2.0
"""How an object is named, everywhere: in the store, on the link, in logs."""

from __future__ import annotations

from typing import NamedTuple


class ObjectKey(NamedTuple):
    """The name of one object.

    ``group`` is empty for the core group, ``namespace`` for cluster-scoped objects. ``resource`` is
    the plural; a report of a subresource is kept under ``pods/status`` and the like.
    """

    group: str
    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"
