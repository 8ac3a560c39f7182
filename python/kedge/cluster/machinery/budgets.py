# SPDX-License-Identifier: Apache-2.0
"""Records of PodDisruptionBudgets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from kedge.cluster.machinery import wire  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Key

GROUP = "policy"
RESOURCE = "poddisruptionbudgets"


class Budget(Struct, weakref=False):
    """A PodDisruptionBudget: whom it selects."""

    namespace: str
    name: str
    uid: str
    version: int
    selector: wire.LabelSelector | None

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class _Spec(Struct):
    selector: wire.LabelSelector | None = None


class _Object(Struct):
    metadata: wire.Metadata
    spec: _Spec = field(default_factory=_Spec)


_decoder = msgspec.json.Decoder(_Object)


def budget_of(value: bytes, version: int) -> Budget:
    """A budget's record."""
    decoded = _decoder.decode(value)
    metadata = decoded.metadata
    return Budget(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        selector=decoded.spec.selector,
    )
