# SPDX-License-Identifier: Apache-2.0
"""Records of PodDisruptionBudgets, and how many pods an owner wants."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import wire
from kedge.errors import NoScale

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
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


def scale_of(client: Client, owner: wire.OwnerReference, namespace: str) -> tuple[str, int] | None:
    """The object that says how many pods there should be, by its uid, and how many.

    A ReplicaSet of a Deployment is the Deployment's.

    Args:
        client: reads.
        owner: a pod's controller.
        namespace: of both.

    Raises:
        NoScale: objects of that kind do not say so.
    """
    group, _, version = owner.api_version.rpartition("/")
    kind = next((one for one in kinds.KINDS if (one.group, one.kind) == (group, owner.kind)), None)
    if kind is None:
        shown = owner.api_version if group else version
        raise NoScale(f'no matches for kind "{owner.kind}" in version "{shown}"')
    if kind.subresource("scale") is None:
        raise NoScale(f"{kind.group_resource} does not implement the scale subresource")
    stored = client.get(ObjectKey(group, kind.resource, namespace, owner.name))
    if stored is None or stored["metadata"]["uid"] != owner.uid:
        return None
    if (group, kind.kind) == ("apps", "ReplicaSet"):
        for one in stored["metadata"].get("ownerReferences") or ():
            if one.get("controller") and one.get("kind") == "Deployment":
                above = wire.OwnerReference(one["uid"], one["kind"], one["name"], one["apiVersion"])
                found = scale_of(client, above, namespace)
                if found is not None:
                    return found
    return owner.uid, int(stored.get("spec", {}).get("replicas", 1))
