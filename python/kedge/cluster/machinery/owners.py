# SPDX-License-Identifier: Apache-2.0
"""Owner references: made, added and taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.records import Workload


def controller_reference(api_version: str, kind: str, owner: Workload) -> dict[str, Any]:
    """The owner reference of what a controller makes."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


async def adopt(client: Client, key: ObjectKey, uid: str, reference: dict[str, Any]) -> None:
    """Makes ``reference`` the controller of a dependent that has none."""
    stored = client.get(key)
    if stored is None or stored["metadata"]["uid"] != uid:
        return
    references = stored["metadata"].get("ownerReferences") or []
    if any(each.get("controller") for each in references):
        return
    await _write(client, key, stored, [*references, reference])


async def release(client: Client, key: ObjectKey, uid: str, owner_uid: str) -> None:
    """Takes an owner away from a dependent."""
    stored = client.get(key)
    if stored is None or stored["metadata"]["uid"] != uid:
        return
    references = stored["metadata"].get("ownerReferences") or []
    kept = [each for each in references if each["uid"] != owner_uid]
    if len(kept) != len(references):
        await _write(client, key, stored, kept)


async def _write(
    client: Client, key: ObjectKey, stored: dict[str, Any], references: list[dict[str, Any]]
) -> None:
    metadata = stored["metadata"]
    await client.patch(
        key,
        {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "ownerReferences": references,
            }
        },
    )
