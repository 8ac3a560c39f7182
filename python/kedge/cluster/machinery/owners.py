# SPDX-License-Identifier: Apache-2.0
"""Owner references: made, added and taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.cluster.machinery.batch import Job
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.records import Workload


def controller_reference(api_version: str, kind: str, owner: Workload | Job) -> dict[str, Any]:
    """The owner reference of what a controller makes."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


async def adopt(
    client: Client,
    key: ObjectKey,
    uid: str,
    reference: dict[str, Any],
    *,
    finalizer: str = "",
) -> None:
    """Makes ``reference`` the controller of a dependent that has none.

    Args:
        client: writes.
        key: the dependent.
        uid: its uid.
        reference: the owner.
        finalizer: what the owner puts on its dependents, if anything.
    """
    stored = client.get(key)
    if stored is None or stored["metadata"]["uid"] != uid:
        return
    references = stored["metadata"].get("ownerReferences") or []
    if any(each.get("controller") for each in references):
        return
    await _write(client, key, stored, [*references, reference], add=finalizer)


async def release(
    client: Client, key: ObjectKey, uid: str, owner_uid: str, *, finalizer: str = ""
) -> None:
    """Takes an owner away from a dependent, and the owner's finalizer."""
    stored = client.get(key)
    if stored is None or stored["metadata"]["uid"] != uid:
        return
    references = stored["metadata"].get("ownerReferences") or []
    kept = [each for each in references if each["uid"] != owner_uid]
    if len(kept) != len(references):
        await _write(client, key, stored, kept, remove=finalizer)


async def _write(
    client: Client,
    key: ObjectKey,
    stored: dict[str, Any],
    references: list[dict[str, Any]],
    *,
    add: str = "",
    remove: str = "",
) -> None:
    metadata = stored["metadata"]
    change: dict[str, Any] = {
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
        "ownerReferences": references,
    }
    finalizers = metadata.get("finalizers") or []
    if add and add not in finalizers:
        change["finalizers"] = [*finalizers, add]
    elif remove and remove in finalizers:
        change["finalizers"] = [each for each in finalizers if each != remove] or None
    await client.patch(key, {"metadata": change})
