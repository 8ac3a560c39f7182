# SPDX-License-Identifier: Apache-2.0
"""What is new in a pod's status: whether somebody waits for it, and which Events it is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.status import DEADLINE_MESSAGE, DEADLINE_REASON

if TYPE_CHECKING:
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.pod.status import Status


def is_urgent(after: Status) -> bool:
    """Whether somebody waits for this change, rather than for the one that follows it."""
    if after["phase"] != "Pending":
        return True
    return bool(set(waiting_reasons(after).values()) - {"ContainerCreating", "PodInitializing"})


def say(recorder: Recorder, pod: Pod, before: Status, after: Status) -> None:
    """Events: a container begins to wait for its next start, the pod is over its deadline."""
    known, metadata = waiting_reasons(before), pod["metadata"]
    for name, reason in waiting_reasons(after).items():
        if reason == "CrashLoopBackOff" and known.get(name) != reason:
            where = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            text = f"Back-off restarting failed container {name} in pod {where}"
            recorder.pod(pod, "BackOff", text, container=name, warning=True)
    if after.get("reason") == DEADLINE_REASON != before.get("reason"):
        recorder.pod(pod, DEADLINE_REASON, DEADLINE_MESSAGE)


def waiting_reasons(status: Status) -> dict[str, str]:
    """Why containers wait, by name."""
    return {
        one["name"]: one["state"]["waiting"].get("reason", "")
        for one in lifecycle.container_statuses(status)
        if "waiting" in one["state"]
    }
