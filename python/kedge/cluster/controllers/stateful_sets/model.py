# SPDX-License-Identifier: Apache-2.0
"""What a StatefulSet asks for, and which pods are its members. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.cluster.machinery.records import Pod
    from kedge.cluster.machinery.wire import Object

MAX_ORDINAL = (1 << 31) - 1
_MEMBER = re.compile(r"(.*)-(0|[1-9][0-9]{0,9})")


class Retention(NamedTuple):
    """When claims go along with what used them."""

    when_deleted: bool
    when_scaled: bool


@dataclass(frozen=True, slots=True)
class StatefulSet:
    """What of a StatefulSet decides on its pods."""

    namespace: str
    name: str
    uid: str
    start: int
    """The first ordinal."""
    replicas: int
    is_ordered: bool
    """One pod at a time, each only when those before it are available."""
    is_rolling: bool
    """Pods of older templates are replaced; else they stay until somebody deletes them."""
    partition: int | None
    """How many of the first pods keep the current template; None when nothing is said."""
    max_unavailable: int
    min_ready_seconds: int
    current_replicas: int
    """How many pods of the current template the status tells of."""
    claims: tuple[str, ...]
    """Names of the claim templates."""
    retention: Retention

    @classmethod
    def of(cls, stored: Object) -> StatefulSet:
        """Reads a stored one."""
        metadata, spec = stored["metadata"], stored["spec"]
        update = spec.get("updateStrategy") or {}
        rolling = update.get("rollingUpdate")
        replicas = spec.get("replicas", 1)
        retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            start=(spec.get("ordinals") or {}).get("start") or 0,
            replicas=replicas,
            is_ordered=spec.get("podManagementPolicy") != "Parallel",
            is_rolling=update.get("type") != "OnDelete",
            partition=None if rolling is None else rolling.get("partition") or 0,
            max_unavailable=_max_unavailable(rolling or {}, replicas),
            min_ready_seconds=spec.get("minReadySeconds") or 0,
            current_replicas=(stored.get("status") or {}).get("currentReplicas") or 0,
            claims=tuple(
                (each.get("metadata") or {}).get("name", "")
                for each in spec.get("volumeClaimTemplates") or ()
            ),
            retention=Retention(
                retention.get("whenDeleted") == "Delete", retention.get("whenScaled") == "Delete"
            ),
        )

    def pod_name(self, ordinal: int) -> str:
        """The name of a member."""
        return f"{self.name}-{ordinal}"

    def claim_names(self, ordinal: int) -> list[str]:
        """The names of a member's claims."""
        return [f"{claim}-{self.name}-{ordinal}" for claim in self.claims]

    def ordinal_of(self, pod: Pod) -> int | None:
        """The ordinal in a member's name; None for a pod that is none."""
        match = _MEMBER.fullmatch(pod.name)
        if match is None or match[1] != self.name or int(match[2]) > MAX_ORDINAL:
            return None
        return int(match[2])

    def wants(self, ordinal: int) -> bool:
        """Whether there should be a pod of that ordinal."""
        return self.start <= ordinal < self.start + self.replicas


def _max_unavailable(rolling: Mapping[str, Any], replicas: int) -> int:
    """A percentage is rounded down; at least one pod may always be taken."""
    value = rolling.get("maxUnavailable", 1)
    if isinstance(value, str):
        digits = value.removesuffix("%")
        value = replicas * int(digits) // 100 if digits.isdigit() else 1
    return max(value or 1, 1)
