# SPDX-License-Identifier: Apache-2.0
"""How many pods an object wants, whatever kind it is of: its ``Scale``, as the subresource shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.subresources import scale_of as shown_scale
from kedge.cluster.machinery.wire import OwnerReference
from kedge.errors import NoScale

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.cluster.machinery.client import Client

Object = dict[str, Any]


def kind_of(api_version: str, name: str) -> Kind | None:
    """The kind that a reference names: in that version, or of that group."""
    found = kinds.find_kind(api_version, name)
    if found is not None:
        return found
    group = api_version.rpartition("/")[0]
    wanted = (one for one in kinds.KINDS if (one.group, one.kind) == (group, name))
    return next(wanted, None)


def read(client: Client, kind: Kind, namespace: str, name: str) -> Object | None:
    """The ``Scale`` of an object; None if it is not there or is of a kind that has none."""
    if kind.subresource("scale") is None:
        return None
    stored = client.get(ObjectKey(kind.group, kind.resource, namespace, name))
    return shown_scale(stored) if stored is not None else None


def wanted_by(client: Client, owner: OwnerReference, namespace: str) -> tuple[str, int] | None:
    """The object that says how many pods there should be, by its uid, and how many.

    A ReplicaSet of a Deployment is the Deployment's.

    Args:
        client: reads.
        owner: a pod's controller.
        namespace: of both.

    Raises:
        NoScale: objects of that kind do not say so.
    """
    kind = kind_of(owner.api_version, owner.kind)
    if kind is None:
        raise NoScale(f'no matches for kind "{owner.kind}" in version "{owner.api_version}"')
    if kind.subresource("scale") is None:
        raise NoScale(f"{kind.group_resource} does not implement the scale subresource")
    stored = client.get(ObjectKey(kind.group, kind.resource, namespace, owner.name))
    if stored is None or stored["metadata"]["uid"] != owner.uid:
        return None
    if (kind.group, kind.kind) == ("apps", "ReplicaSet"):
        above = _deployment(stored)
        found = wanted_by(client, above, namespace) if above is not None else None
        if found is not None:
            return found
    return owner.uid, int(shown_scale(stored)["spec"]["replicas"])


def _deployment(replica_set: Object) -> OwnerReference | None:
    for one in replica_set["metadata"].get("ownerReferences") or ():
        if one.get("controller") and one.get("kind") == "Deployment":
            return OwnerReference(one["uid"], one["kind"], one["name"], one["apiVersion"])
    return None
