# SPDX-License-Identifier: Apache-2.0
"""What pods are given of the node's view, with what they need to reach this node's own API.

``kube-root-ca.crt`` gets the node's authority beside the cluster's, and a token that ran out while
the cloud is away is the one that the node signed instead. The objects in the store stay as they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.objects import NODE_TOKENS, TOKENS, StoreObjects

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.store import Store

ROOT = "kube-root-ca.crt"
FILE = "ca.crt"


class NodeObjects(StoreObjects):
    """The view as pods get it.

    Args:
        store: the node's replica.
        authority: the certificate of the node's authority, PEM.
    """

    def __init__(self, store: Store, authority: str) -> None:
        super().__init__(store)
        self._authority = authority

    def get(self, key: ObjectKey) -> dict[str, Any] | None:
        """The object, or none."""
        found = super().get(key)
        if found is None or key.name != ROOT or key.resource != "configmaps":
            return found
        data = found.get("data") or {}
        both = f"{data.get(FILE, '').rstrip()}\n{self._authority}".lstrip()
        return found | {"data": data | {FILE: both}}

    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a resource in a namespace."""
        found = super().list(group, resource, namespace)
        if (group, resource) != TOKENS:
            return found
        page = self._store.list(*NODE_TOKENS, namespace=namespace)
        own = {item.key.name: json.loads(item.value) for item in page.items}
        return [newest(one, own.get(one["metadata"]["name"])) for one in found] if own else found


def newest(token: dict[str, Any], own: dict[str, Any] | None) -> dict[str, Any]:
    """The token of the cloud, or the node's own for the same pod when that lasts longer."""
    if own is None or own["spec"].get("podUID") != (token.get("spec") or {}).get("podUID"):
        return token
    status = token.get("status") or {}
    # Both are RFC 3339 in UTC to the second.
    if str(status.get("expirationTimestamp", "")) >= own["status"]["expirationTimestamp"]:
        return token
    return token | {"status": own["status"]}
