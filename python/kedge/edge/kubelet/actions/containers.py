# SPDX-License-Identifier: Apache-2.0
"""A pod's containers: started with their hooks, stopped, looked at and removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.edge.kubelet.actions.acting import FIRST_DELAY_SECONDS, KILL_RETRY_SECONDS, Acting
from kedge.edge.kubelet.container import logs, mounts
from kedge.edge.kubelet.container.environment import ContainerConfigError
from kedge.edge.kubelet.container.security import CreateContainerError
from kedge.edge.kubelet.images import images
from kedge.edge.kubelet.pod import lifecycle, observe, plan
from kedge.edge.kubelet.pod.state import Container, ContainerState
from kedge.edge.kubelet.starter import PostStartHookError, RunContainerError, Starter
from kedge.errors import KedgeError, RuntimeFailure

if TYPE_CHECKING:
    from kedge.edge.kubelet.health.hooks import Hooks
    from kedge.edge.kubelet.worker import PodWorker
    from kedge.edge.runtime import ContainerStatus

PULL_FIRST_DELAY_SECONDS = 10.0
CONFIG_DELAY_SECONDS = 10.0


class ContainerActions(Acting):
    """Starts containers and ends them."""

    def __init__(self, worker: PodWorker) -> None:
        super().__init__(worker)
        self._starter = Starter(worker.tools)
        self._hooks: Hooks | None = None

    async def start_container(self, action: plan.StartContainer) -> None:
        """Starts a container; a failure is remembered with when to try again."""
        worker, name = self._worker, action.name
        container = lifecycle.find_container(worker.pod, name)
        sandbox = worker.sandboxes.get(action.sandbox_id)
        if container is None or sandbox is None:
            return
        target = self._target(container)
        try:
            worker.pulling.add(name)
            image = await self._starter.image(worker.pod, container)
            worker.pulling.discard(name)
            async with self._tools.start_limit:
                started = await self._starter.create_and_start(
                    worker.pod,
                    container,
                    sandbox,
                    image,
                    action.attempt,
                    volumes=worker.volumes or {},
                    created=self._created,
                    target=target,
                )
            await self._after_start(started, container)
        except (images.ImagePullError, images.ImageNeverPullError) as error:
            self._pull_failed(name, container.get("image", ""), error)
        except ContainerConfigError as error:
            self._start_failed(name, error, CONFIG_DELAY_SECONDS)
        except PostStartHookError as error:
            worker.log.info("container %s is stopped: its start hook failed: %s", name, error)
        except (CreateContainerError, RunContainerError, RuntimeFailure) as error:
            self._start_failed(name, error, worker.memory.delay(name, FIRST_DELAY_SECONDS))
            await self._look_after_failure(name, action.attempt)
        else:
            worker.memory.failures.pop(name, None)
        if action.back_off is not None:
            worker.memory.back_offs[name] = action.back_off

    async def _after_start(self, started: Container, container: dict[str, Any]) -> None:
        """Runs the start hook; until it has ended the container counts as created only."""
        worker, name = self._worker, started.name
        if not (container.get("lifecycle") or {}).get("postStart"):
            worker.containers[started.id] = started
            return
        hooks = self._load_hooks()
        worker.pulling.add(name)
        try:
            await hooks.after_start(started.id, container)
        except PostStartHookError as error:
            worker.pulling.discard(name)
            worker.fail(name, error.reason, f"PostStartHook failed: {error}", 0.0)
            grace = lifecycle.grace_seconds(worker.pod)
            await self.kill_container(
                plan.KillContainer(started.id, name, grace, "FailedPostStartHook")
            )
            raise
        finally:
            worker.pulling.discard(name)
            if worker.containers.get(started.id, started).state is ContainerState.CREATED:
                worker.containers[started.id] = started

    def _load_hooks(self) -> Hooks:
        if self._hooks is None:
            # Few pods have hooks: those that have none do not pay for them.
            from kedge.edge.kubelet.health.hooks import Hooks  # noqa: PLC0415

            self._hooks = Hooks(self._worker)
        return self._hooks

    def _target(self, container: dict[str, Any]) -> str:
        """The id of the container whose processes an ephemeral one wants to see."""
        wanted = container.get("targetContainerName")
        found = self._worker.observed().latest(wanted) if wanted else None
        is_running = found is not None and found.state is ContainerState.RUNNING
        return found.id if found is not None and is_running else ""

    def _created(self, one: Container) -> None:
        self._worker.containers[one.id] = one

    async def _look_after_failure(self, name: str, attempt: int) -> None:
        """A container that was created and not started may have ended; learn how."""
        for one in list(self._worker.containers.values()):
            if one.name == name and one.attempt == attempt:
                await self.refresh_container(one.id)

    def _pull_failed(self, name: str, reference: str, error: RuntimeFailure) -> None:
        worker = self._worker
        earlier = worker.memory.failures.get(name)
        delay = worker.memory.delay(name, PULL_FIRST_DELAY_SECONDS)
        reason, text = images.event(reference, error)
        self._event(reason, text, container=name)
        self._event("Failed", f"Error: {error.reason}", container=name)
        if earlier is None or reason != "Failed":
            worker.fail(name, error.reason, str(error), delay)
            return
        text = f'Back-off pulling image "{reference}"'
        worker.fail(name, "ImagePullBackOff", f"{text}: {error.reason}: {error}", delay)
        self._event("BackOff", text, container=name, warning=False)

    def _start_failed(self, name: str, error: KedgeError, delay: float) -> None:
        self._worker.fail(name, error.reason, str(error), delay)
        self._event("Failed", f"Error: {error}", container=name)

    async def kill_container(self, action: plan.KillContainer) -> None:
        """TERM, grace, KILL; then how it ended."""
        worker = self._worker
        self._event("Killing", action.message, container=action.name, warning=False)
        if action.is_replaced:
            worker.memory.replaced.add(action.id)
        grace = action.grace_seconds
        spec = lifecycle.find_container(worker.pod, action.name) or {}
        if grace > 0 and (spec.get("lifecycle") or {}).get("preStop"):
            grace = await self._load_hooks().finish_stop(action.id, spec, grace)
        if __debug__:
            faults.point("container.stop.asked")
        try:
            await self._tools.runtime.stop_container(action.id, grace)
            if __debug__:
                faults.point("container.stopped")
        except RuntimeFailure as error:
            worker.memory.kills.pop(action.id, None)
            worker.memory.replaced.discard(action.id)
            self._retry(
                action.id, "FailedKillPod", f"error killing container {action.name}: {error}"
            )
            return
        await self.refresh_container(action.id)
        worker.memory.kills.pop(action.id, None)
        known = worker.containers.get(action.id)
        if known is not None and known.state is not ContainerState.EXITED:
            text = f"container {action.name} was stopped and is {known.state} still"
            self._retry(action.id, "FailedKillPod", text)

    def run_stop_hook(self, action: plan.RunStopHook) -> None:
        """Begins the hook of a container that is stopped later."""
        self._worker.memory.hooked.add(action.id)
        spec = lifecycle.find_container(self._worker.pod, action.name)
        if spec is not None:
            self._load_hooks().begin_stop(action.id, spec, action.grace_seconds)

    def container_ended(self, container_id: str) -> None:
        """Whatever hook of it still runs is over."""
        self._worker.memory.hooked.discard(container_id)
        if self._hooks is not None:
            self._hooks.cut(container_id)

    async def remove_container(self, action: plan.RemoveContainer) -> None:
        """Removes a container that does not run."""
        known = self._worker.containers.get(action.id)
        if known is not None and known.state is ContainerState.CREATED:
            # A start that was asked for by an agent that died may have come through meanwhile.
            await self.refresh_container(action.id)
            known = self._worker.containers.get(action.id)
            if known is None or known.state is not ContainerState.CREATED:
                return
        try:
            await self._tools.runtime.remove_container(action.id)
            if __debug__:
                faults.point("container.removed")
        except RuntimeFailure as error:
            self._worker.log.warning("container %s cannot be removed: %s", action.id, error)
            self._worker.fail(action.id, "FailedRemove", str(error), KILL_RETRY_SECONDS)
            return
        self._worker.memory.replaced.discard(action.id)
        known = self._worker.containers.get(action.id)
        if known is not None and known.log_path:
            logs.remove(Path(known.log_path))
        self._worker.observe_container(None, action.id)

    async def refresh_container(self, container_id: str) -> None:
        """Asks the runtime how a container is now, and takes that over."""
        worker = self._worker
        one = worker.containers.get(container_id)
        if one is None:
            return
        try:
            status = await self._tools.runtime.container_status(container_id)
        except RuntimeFailure as error:
            worker.log.debug("container %s cannot be asked: %s", container_id, error)
            return
        if status is None:
            worker.observe_container(None, container_id)
            return
        worker.observe_container(
            observe.with_status(one, status, self._last_words(one, status)), container_id
        )

    def _last_words(self, one: Container, status: ContainerStatus) -> str:
        if ContainerState(status.state) is not ContainerState.EXITED:
            return ""
        spec = lifecycle.find_container(self._worker.pod, one.name) or {}
        falls_back = (
            spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
            and status.exit_code != 0
        )
        log = Path(status.log_path) if falls_back and status.log_path else None
        path = mounts.last_words(self._tools.paths.pod(self._worker.uid), one.name, one.attempt)
        return mounts.read_last_words(path, log)
