# SPDX-License-Identifier: Apache-2.0
"""A StatefulSet's status. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.revisions import POD_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.controllers.stateful_sets.model import StatefulSet
    from kedge.cluster.controllers.stateful_sets.plan import Revisions
    from kedge.cluster.machinery.records import Pod

OWN = (
    "observedGeneration",
    "replicas",
    "readyReplicas",
    "availableReplicas",
    "currentReplicas",
    "updatedReplicas",
    "currentRevision",
    "updateRevision",
    "collisionCount",
)
"""The fields that are written here; others are left to whoever wrote them."""
_ALWAYS = frozenset({"replicas", "availableReplicas", "collisionCount"})


def status_of(
    stateful_set: StatefulSet, revisions: Revisions, pods: Iterable[Pod], now: float
) -> dict[str, Any]:
    """Counts and revisions.

    When every pod is of the new template and ready, it becomes the current one.

    Args:
        stateful_set: what is wanted.
        revisions: of its template.
        pods: all that it controls.
        now: epoch seconds.
    """
    counts = dict.fromkeys(
        ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"), 0
    )
    for pod in pods:
        counts["replicas"] += 1
        if pod.phase == "Running" and pod.ready:
            counts["readyReplicas"] += 1
            counts["availableReplicas"] += pod.available(stateful_set.min_ready_seconds, now)
        if not pod.deleted:
            counts["currentReplicas"] += pod.labels.get(POD_LABEL) == revisions.current
            counts["updatedReplicas"] += pod.labels.get(POD_LABEL) == revisions.update
    current = revisions.current
    whole = (counts["updatedReplicas"], counts["readyReplicas"], counts["replicas"])
    if stateful_set.is_rolling and whole == (stateful_set.replicas,) * 3:
        counts["currentReplicas"] = counts["updatedReplicas"]
        current = revisions.update
    return {**counts, "currentRevision": current, "updateRevision": revisions.update}


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The merge patch of a status; counts that are zero are left out, as upstream does."""
    wanted = {field: value for field, value in after.items() if value or field in _ALWAYS}
    patch = {field: None for field in OWN if field in before and field not in wanted}
    return patch | {field: value for field, value in wanted.items() if before.get(field) != value}
