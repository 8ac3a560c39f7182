# SPDX-License-Identifier: Apache-2.0
"""A pod's volumes and tokens, and at its end all that is left of it on disk."""

from __future__ import annotations

from kedge import faults
from kedge.edge.kubelet import remains
from kedge.edge.kubelet.actions.acting import FIRST_DELAY_SECONDS, Acting
from kedge.edge.kubelet.admission import device_admission
from kedge.edge.kubelet.container import tokens
from kedge.edge.kubelet.pod import plan
from kedge.edge.kubelet.volumes.errors import AttachError
from kedge.errors import KedgeError

QUIET_SECONDS = 2.0
"""A pod's objects and tokens come right after it: what is missing this long is worth an Event."""


class VolumeActions(Acting):
    """Gives a pod its volumes, and takes them back."""

    async def prepare_volumes(self) -> None:
        """Gives every volume its path; a missing object waits for it to come."""
        worker, changes = self._worker, self._worker.object_changes
        self.say_unhonoured()
        if not await device_admission.admitted(worker):
            return
        if __debug__:
            faults.point("pod.volumes.asked")
        try:
            found = await self._tools.volumes.prepare(worker.pod, self._tools.objects)
        except (KedgeError, OSError) as error:
            if worker.object_changes != changes:
                return  # what was missing may have come while this looked: again at once
            now = self._tools.clock()
            delay = worker.memory.delay(plan.VOLUMES, FIRST_DELAY_SECONDS)
            is_told = now > worker.began_at + QUIET_SECONDS
            if not is_told:  # the attempt that will be told is not put off beyond then
                delay = min(delay, worker.began_at + QUIET_SECONDS + 0.1 - now)
            reason = error.reason if isinstance(error, AttachError) else "FailedMount"
            worker.fail(plan.VOLUMES, reason, str(error), delay)
            if is_told:
                self._event(reason, str(error))
            return
        worker.volumes = found
        worker.memory.failures.pop(plan.VOLUMES, None)
        if __debug__:
            faults.point("pod.volumes.prepared")
        if worker.object_changes != changes:
            self.refresh_volumes()
        self.mark_expired_tokens(self._tools.clock())

    def refresh_volumes(self) -> None:
        """Brings running containers' files up to their objects; a missing one leaves them as they are."""
        worker = self._worker
        try:
            self._tools.volumes.refresh(worker.pod, self._tools.objects)
        except (KedgeError, OSError) as error:
            self._event("FailedMount", str(error))
        self.mark_expired_tokens(self._tools.clock())

    def mark_expired_tokens(self, now: float) -> None:
        """Says when a pod runs on a kept token past its time, and looks again when one will expire."""
        worker = self._worker
        found = tokens.expiry(worker.pod, self._tools.objects, now)
        if found.is_expired and not worker.token_expired:
            text = "the service account token has expired and is kept until the cloud can renew it"
            self._event("TokenExpired", text)
        worker.token_expired = found.is_expired
        worker.token_check_at = found.next_at

    async def release_volumes(self) -> None:
        """Removes the volumes of a pod that the node has ended."""
        if await self._removed(plan.VOLUMES):
            self._worker.volumes, self._worker.volumes_released = None, True

    async def clean_up(self) -> None:
        """Removes what is left on disk, then reports that the pod is gone, if anyone asked."""
        worker = self._worker
        if not await self._removed(plan.CLEAN_UP):
            return
        if __debug__:
            faults.point("pod.volumes.removed")
        remains.remove(self._tools.paths, self._tools.cgroups, worker.uid)
        device_admission.release(worker)
        worker.is_cleaned = True
        if not worker.is_gone:
            self._tools.reporter.pod_deleted(worker.pod)

    async def _removed(self, action: str) -> bool:
        """Whether the pod's volumes are removed; if not, the action is tried again."""
        try:
            await self._tools.volumes.remove(self._worker.uid)
        except (KedgeError, OSError) as error:
            self._retry(action, "FailedUnmount", f"volumes cannot be removed: {error}")
            return False
        return True
