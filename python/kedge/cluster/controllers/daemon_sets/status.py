# SPDX-License-Identifier: Apache-2.0
"""A DaemonSet's status. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.machinery.revisions import POD_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.controllers.daemon_sets.plan import OnNode
    from kedge.cluster.machinery.records import Workload


def status_of(record: Workload, digest: str, nodes: Iterable[OnNode], now: float) -> dict[str, int]:
    """The numbers of the status.

    Args:
        record: the DaemonSet.
        digest: the present template's hash.
        nodes: every node with the DaemonSet's pods on it.
        now: epoch seconds.
    """
    desired = current = misscheduled = ready = available = updated = 0
    for node in nodes:
        running = [pod for pod in node.pods if pod.phase != "Failed"]
        if not node.place.should_run:
            misscheduled += int(bool(running) and not node.place.may_stay)
            continue
        desired += 1
        if not running:
            continue
        current += 1
        oldest_first = sorted(running, key=lambda pod: pod.created)
        best = next((pod for pod in oldest_first if pod.ready), oldest_first[0])
        ready += int(best.ready)
        available += int(best.available(record.min_ready_seconds, now))
        updated += int(any(pod.labels.get(POD_LABEL) == digest for pod in running))
    return {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": record.generation,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
