# SPDX-License-Identifier: Apache-2.0
"""How old a pod's ServiceAccount tokens are; pure.

A token past its time is kept and used: a node that cannot reach its cloud cannot renew it, and a
pod without its volume could not start at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.edge.kubelet.objects import TOKENS, Objects
from kedge.edge.kubelet.pod.lifecycle import parse_time

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Pod


@dataclass(frozen=True, slots=True)
class Expiry:
    """Whether any of a pod's tokens is past its time, and when the next one will be."""

    is_expired: bool
    next_at: float


def uses_tokens(pod: Pod) -> bool:
    """Whether a volume of the pod has a ServiceAccount token."""
    return any(
        "serviceAccountToken" in source
        for volume in pod["spec"].get("volumes") or []
        for source in (volume.get("projected") or {}).get("sources") or []
    )


def may_use_tokens(pod: Pod) -> bool:
    """The same, or a volume has a driver that may want one."""
    kinds = {"csi", "ephemeral", "persistentVolumeClaim"}
    return uses_tokens(pod) or any(
        not kinds.isdisjoint(volume) for volume in pod["spec"].get("volumes") or []
    )


def expiry(pod: Pod, objects: Objects, now: float) -> Expiry:
    """The state of a pod's tokens."""
    if not uses_tokens(pod):
        return Expiry(is_expired=False, next_at=float("inf"))
    metadata = pod["metadata"]
    times = [
        parse_time((token.get("status") or {}).get("expirationTimestamp"))
        for token in objects.list(*TOKENS, metadata["namespace"])
        if (token.get("spec") or {}).get("podUID") == metadata["uid"]
    ]
    later = [when for when in times if when > now]
    return Expiry(any(0 < when <= now for when in times), min(later, default=float("inf")))
