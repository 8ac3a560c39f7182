# SPDX-License-Identifier: Apache-2.0
"""Whether a pod that has come to this node may start: its devices are given to it here.

A pod whose devices cannot be had fails for good with the kubelet's reason; one that has devices whose
plugin is not back yet waits, and so do its containers, until the plugin is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kedge.edge.kubelet.pod import plan
from kedge.edge.kubelet.pod.state import Ended
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.worker import PodWorker

WAIT_SECONDS = 1.0
WAITING = frozenset({"DevicesUnavailable", "FailedMount"})
"""Failures that a plugin's coming may end."""


class DeviceSource(Protocol):
    """Gives pods their devices."""

    async def admit(self, pod: Pod, *, is_running: bool) -> None:
        """Gives a pod its devices, or finds that it has them."""

    async def edits(self, pod: Pod, container: dict[str, Any]) -> dict[str, Any] | None:
        """What the plugins want of a container that is about to start."""

    def release(self, uid: str) -> None:
        """Frees the devices of a pod that has ended."""


async def admitted(worker: PodWorker) -> bool:
    """Gives the pod its devices; whether it may go on."""
    devices = worker.tools.devices
    if devices is None:
        return True
    try:
        await devices.admit(worker.pod, is_running=bool(worker.sandboxes))
    except KedgeError as error:
        if error.retryable:
            delay = worker.memory.delay(plan.VOLUMES, WAIT_SECONDS)
            worker.fail(plan.VOLUMES, error.reason, str(error), delay)
        else:
            why = f"Pod was rejected: {error}"
            worker.end(Ended(error.reason, why, is_disruption=False))
        worker.tools.recorder.pod(worker.pod, error.reason, str(error), warning=True)
        return False
    return True


def release(worker: PodWorker) -> None:
    """Frees the devices of a pod of which nothing is left; what a full disk keeps is freed later."""
    if worker.tools.devices is not None:
        try:
            worker.tools.devices.release(worker.uid)
        except OSError as error:
            worker.log.warning("devices stay taken until they are wanted: %s", error)


def plugins_changed(workers: Iterable[PodWorker]) -> None:
    """Lets pods that wait for a plugin try again at once."""
    for worker in workers:
        waiting = worker.memory.failures.get(plan.VOLUMES)
        if waiting is not None and waiting.reason in WAITING:
            worker.memory.forget_failures(WAITING)
            worker.wake()
