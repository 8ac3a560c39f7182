# SPDX-License-Identifier: Apache-2.0
"""Who owns a StatefulSet's claims, by ``persistentVolumeClaimRetentionPolicy``. Pure.

A claim that goes with the set is owned by the set; one that goes when its pod is scaled away is
owned by that pod from then on. The garbage collector does the rest. Claims with another controller,
or of an earlier set or pod with the same name, are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kedge.cluster.machinery.wire import OwnerReference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.controllers.stateful_sets.model import Retention

References = tuple[OwnerReference, ...]


class Holder(NamedTuple):
    """A set or a pod that may own a claim."""

    api_version: str
    kind: str
    name: str
    uid: str

    def is_named(self, reference: OwnerReference) -> bool:
        """Whether a reference means it, or one that had its name."""
        found = (reference.api_version, reference.kind, reference.name)
        return found == (self.api_version, self.kind, self.name)

    def owns(self, references: Sequence[OwnerReference]) -> bool:
        """Whether it is among the owners."""
        return any(each.uid == self.uid for each in references)

    def is_stale_in(self, references: Sequence[OwnerReference]) -> bool:
        """Whether one that had its name is among the owners."""
        return any(self.is_named(each) and each.uid != self.uid for each in references)

    @property
    def reference(self) -> dict[str, Any]:
        """The reference of a claim to it."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


class Owners:
    """Decides about the owners of one pod's claims.

    Args:
        stateful_set: the set.
        pod: the pod.
        retention: the set's policy.
        is_wanted: whether the pod's ordinal is among those that the set wants.
    """

    def __init__(
        self, stateful_set: Holder, pod: Holder, retention: Retention, *, is_wanted: bool
    ) -> None:
        self._holders = (stateful_set, pod)
        self._keeps_all = not (retention.when_deleted or retention.when_scaled)
        by_pod = retention.when_scaled and not is_wanted
        self._wanted = (retention.when_deleted and not by_pod, by_pod)

    def are_right(self, references: References) -> bool:
        """Whether a claim's owners are as they should be, or none of our business."""
        if any(holder.is_stale_in(references) for holder in self._holders):
            return True
        owned = tuple(holder.owns(references) for holder in self._holders)
        if self.conflict(references):
            return not any(owned)
        ours = {holder.uid for holder in self._holders}
        if any(each.uid in ours and not each.controller for each in references):
            return False
        return owned == self._wanted

    def conflict(self, references: References) -> bool:
        """Whether something else controls a claim that the policy is about."""
        if self._keeps_all:
            return False
        for each in references:
            holder = next((one for one in self._holders if one.is_named(each)), None)
            if holder is not None and holder.uid != each.uid:
                return True
            if holder is None and each.controller:
                return True
        return False

    def corrected(self, references: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The owner references that a claim should have."""
        decoded = msgspec.convert(references, References)
        kept = [
            each
            for each, read in zip(references, decoded, strict=True)
            if not any(holder.is_named(read) for holder in self._holders)
        ]
        if self.conflict(decoded):
            return kept
        added = [
            holder.reference
            for holder, wanted in zip(self._holders, self._wanted, strict=True)
            if wanted
        ]
        return kept + added
