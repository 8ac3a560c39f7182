# SPDX-License-Identifier: Apache-2.0
"""Writing a name's pin with a compare-and-swap; when somebody else was faster, deciding again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cloud import names
from kedge.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.kube import KubeClient

ATTEMPTS = 8


async def pin(
    client: KubeClient, name: str, key_hash: str, decide: Callable[[dict[str, Any] | None], bool]
) -> dict[str, Any]:
    """Pins a node name to a key; gives the Node as it then is.

    Args:
        client: the API.
        name: the node's.
        key_hash: of the public key.
        decide: given the Node or none, whether the pin is to be written; it raises to refuse.

    Raises:
        KedgeError: what ``decide`` raised.
        Conflict: the Node changed under us again and again.
    """
    key = ObjectKey("", "nodes", "", name)
    for _attempt in range(ATTEMPTS):
        node = await _find(client, key)
        if not decide(node):
            return node or {}
        try:
            if node is None:
                return await client.create(key, names.new_node(name, key_hash))
            version = str(node["metadata"].get("resourceVersion", ""))
            return await client.patch(key, names.pin_patch(key_hash, version))
        except (AlreadyExists, Conflict, NotFound):
            continue
    raise Conflict(f"node {name}: its Node changes all the time")


async def _find(client: KubeClient, key: ObjectKey) -> dict[str, Any] | None:
    try:
        return await client.get(key)
    except NotFound:
        return None
