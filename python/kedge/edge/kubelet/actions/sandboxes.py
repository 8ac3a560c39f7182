# SPDX-License-Identifier: Apache-2.0
"""A pod's sandbox, with its directories, cgroup and network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kedge import faults
from kedge.edge.kubelet.actions.acting import FIRST_DELAY_SECONDS, Acting
from kedge.edge.kubelet.container import containers, sandboxing
from kedge.edge.kubelet.pod import observe, plan
from kedge.edge.kubelet.starter import Starter
from kedge.errors import KedgeError, RuntimeFailure

if TYPE_CHECKING:
    from kedge.edge.kubelet.worker import PodWorker


class SandboxActions(Acting):
    """Makes a sandbox, stops and removes it."""

    def __init__(self, worker: PodWorker) -> None:
        super().__init__(worker)
        self._starter = Starter(worker.tools)

    async def create_sandbox(self, action: plan.CreateSandbox) -> None:
        """Makes the sandbox, its log directory and network; learns its addresses."""
        worker, runtime, cgroups = self._worker, self._tools.runtime, self._tools.cgroups
        try:
            # First: as long as anything of the pod is here, so is this directory.
            _make_directory(str(self._tools.paths.pod(worker.uid)))
            if __debug__:
                faults.point("pod.directory.made")
            handler = await self._check_sandbox()
            layout = self._starter.layout(worker.pod)
            config = containers.sandbox_config(worker.pod, layout, action.attempt)
            _make_directory(layout.log_directory)
            if cgroups is not None:
                cgroups.prepare(worker.pod)
            async with self._tools.sandbox_limit:
                if __debug__:
                    faults.point("pod.sandbox.asked")
                sandbox_id = await runtime.run_sandbox(config, handler)
                if __debug__:
                    faults.point("pod.sandbox.created")
                status = await runtime.sandbox_status(sandbox_id)
            if cgroups is not None:
                await cgroups.settle(worker.pod)
        except (KedgeError, OSError, ValueError) as error:
            delay = worker.memory.delay(plan.SANDBOX, FIRST_DELAY_SECONDS)
            worker.fail(plan.SANDBOX, "FailedCreatePodSandBox", str(error), delay)
            self._event("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return
        worker.memory.failures.pop(plan.SANDBOX, None)
        if status is not None:
            worker.sandboxes[sandbox_id] = observe.sandbox(status, tuple(status.ips))

    async def _check_sandbox(self) -> str:
        """The runtime's handler for the pod; says what the network's plugins lack for it."""
        pod = self._worker.pod
        handler = sandboxing.handler(pod, self._tools.objects, self._tools.facts.abilities)
        for text in self._starter.dns(pod)[1]:
            self._event("DNSConfigForming", text)
        if sandboxing.needs_network(pod):
            sandboxing.bandwidths(pod)
            network = await self._tools.runtime.network()
            for text in sandboxing.unhonoured_by_network(pod, network):
                self._say_unhonoured(text)
        return handler

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stops a sandbox; what ran in it is stopped already."""
        worker = self._worker
        try:
            await self._tools.runtime.stop_sandbox(sandbox_id)
            if __debug__:
                faults.point("pod.finished.sandbox.stopped")
            status = await self._tools.runtime.sandbox_status(sandbox_id)
        except RuntimeFailure as error:
            self._retry(plan.SANDBOX, "FailedKillPod", f"error stopping pod sandbox: {error}")
            return
        found = None if status is None else observe.sandbox(status, tuple(status.ips))
        worker.observe_sandbox(found, sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Stops and removes a sandbox with its containers."""
        worker, runtime = self._worker, self._tools.runtime
        if not worker.is_ending():
            self._event(
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
                warning=False,
            )
        try:
            if __debug__:
                faults.point("pod.sandbox.stop.asked")
            await runtime.stop_sandbox(sandbox_id)
            if __debug__:
                faults.point("pod.sandbox.stopped")
            await runtime.remove_sandbox(sandbox_id)
            if __debug__:
                faults.point("pod.sandbox.removed")
        except RuntimeFailure as error:
            self._retry(plan.SANDBOX, "FailedKillPod", f"error killing pod sandbox: {error}")
            return
        worker.observe_sandbox(None, sandbox_id)


def _make_directory(path: str) -> None:
    Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
