# SPDX-License-Identifier: Apache-2.0
"""From what a node reports to the strategic merge patch that makes the API say the same.

A node reports whole statuses. The patch must end with exactly that, and still leave alone what
others own: conditions of other types, and the fields in ``OTHERS``. So what vanished is set to
null, and lists that would be merged by key are replaced. Pure.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kedge.api import quantities
from kedge.api.extended import is_extended
from kedge.errors import BadRequest, Invalid

OTHERS = frozenset(
    {
        "conditions",
        "nominatedNodeName",
        "observedGeneration",
        "qosClass",
        "resize",
        "resourceClaimStatuses",
        "volumesAttached",
    }
)
"""Fields that a node's silence does not remove."""
REPLACED = frozenset({"addresses", "hostIPs", "podIPs"})
"""Lists with a merge key that a node reports as a whole."""
COUNTED = frozenset({"allocatable", "capacity"})
"""Maps that a node reports as a whole, but for extended resources."""
TRANSIENT = frozenset({"PodResizeInProgress", "PodResizePending"})
"""Conditions that are there only while they hold."""
CONDITION_FIELDS = ("message", "reason")
"""What a condition may have had before and has no more."""


def status_patch(
    reported: dict[str, Any], known: dict[str, Any] | None, uid: str = ""
) -> dict[str, Any]:
    """The patch of the ``status`` subresource.

    Args:
        reported: the whole status as the node sees it.
        known: the status that the API has, as far as we know it.
        uid: the object that is meant; another one of that name is left alone.
    """
    known = known or {}
    status: dict[str, Any] = dict.fromkeys(known.keys() - reported.keys() - OTHERS)
    for name, value in reported.items():
        if name == "conditions":
            status[name] = [_whole_condition(condition) for condition in value]
            status[name] += _ended_conditions(value, known.get(name) or [])
        elif name in REPLACED and isinstance(value, list):
            status[name] = [*value, {"$patch": "replace"}]
        elif name in COUNTED and isinstance(value, dict):
            status[name] = dict.fromkeys(_own(known.get(name) or {})) | value
        else:
            status[name] = value
    patch: dict[str, Any] = {"status": status}
    if uid:
        patch["metadata"] = {"uid": uid}
    return patch


def named(status: dict[str, Any], node: str, domain: str) -> dict[str, Any]:
    """A Node's status with the name by which others ask its kubelet.

    Args:
        status: as the node reports it; not changed.
        node: its name.
        domain: DOMAIN:PORT, where the API server answers as the kubelets; empty for none.
    """
    if not domain:
        return status
    suffix, _, port = domain.rpartition(":")
    name = {"type": "InternalDNS", "address": f"{node}.{suffix}"}
    return status | {
        "addresses": [*(status.get("addresses") or []), name],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": int(port)}},
    }


def _ended_conditions(
    reported: list[dict[str, Any]], known: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Takes away conditions that only the node sets, and sets no more."""
    kinds = {one["type"] for one in reported}
    before = {one.get("type") for one in known}
    return [{"type": one, "$patch": "delete"} for one in sorted((TRANSIENT & before) - kinds)]


def _own(amounts: dict[str, Any]) -> list[str]:
    """The resources whose absence a node means; extended ones may be an administrator's."""
    return [name for name in amounts if not is_extended(name)]


def _whole_condition(condition: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(CONDITION_FIELDS) | condition


def claim_patch(
    reported: dict[str, Any], claim: dict[str, Any], volume: dict[str, Any] | None
) -> dict[str, Any]:
    """The patch of a claim's status after its node has done its part of growing; empty for none. Pure.

    Args:
        reported: what the node says: of which claim, and its size.
        claim: the claim.
        volume: the PersistentVolume that it is bound to.

    Raises:
        Invalid: the size is more than the volume's, or none.
    """
    uid = claim["metadata"].get("uid")
    size = ((reported.get("status") or {}).get("capacity") or {}).get("storage")
    has = (((volume or {}).get("spec") or {}).get("capacity") or {}).get("storage")
    if reported["metadata"].get("uid") != uid or has is None:
        return {}
    if size != has:
        with suppress(BadRequest):
            if isinstance(size, str) and quantities.parse(size[:64]) < quantities.parse(has):
                return {}  # it has grown again meanwhile, and its node will say so
        raise Invalid(f"report on a claim's size: wanted its volume's, {has}: {str(size)[:64]}")
    done = [{"type": one, "$patch": "delete"} for one in ("FileSystemResizePending", "Resizing")]
    status = {
        "capacity": {"storage": size},
        "conditions": done,
        "allocatedResourceStatuses": {"storage": None},
    }
    return {"metadata": {"uid": uid}, "status": status}
