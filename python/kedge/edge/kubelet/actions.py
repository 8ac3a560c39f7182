# SPDX-License-Identifier: Apache-2.0
"""What a plan's actions do: each one talks to the runtime, records Events, and updates the worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.edge.kubelet import remains
from kedge.edge.kubelet.admission import device_admission, unhonoured
from kedge.edge.kubelet.container import containers, logs, mounts, sandboxing, tokens
from kedge.edge.kubelet.container.environment import ContainerConfigError
from kedge.edge.kubelet.container.security import CreateContainerError
from kedge.edge.kubelet.images import images
from kedge.edge.kubelet.pod import lifecycle, observe, plan
from kedge.edge.kubelet.pod.state import BackOff, Container, ContainerState, Failure
from kedge.edge.kubelet.starter import PostStartHookError, RunContainerError, Starter
from kedge.edge.kubelet.volumes.errors import AttachError
from kedge.errors import KedgeError, RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.health.hooks import Hooks
    from kedge.edge.kubelet.worker import PodWorker
    from kedge.edge.runtime import ContainerStatus

FIRST_DELAY_SECONDS = 1.0
PULL_FIRST_DELAY_SECONDS = 10.0
MAX_DELAY_SECONDS = 300.0
CONFIG_DELAY_SECONDS = 10.0
KILL_RETRY_SECONDS = 2.0
QUIET_SECONDS = 2.0
"""A pod's objects and tokens come right after it: what is missing this long is worth an Event."""
CONFIGURATION_REASONS = frozenset(
    {"FailedAttachVolume", "FailedMount", "CreateContainerConfigError", "FailedCreatePodSandBox"}
)
"""Failures that a change of a ConfigMap, Secret, token or runtime class may end."""


@dataclass(slots=True)
class Memory:
    """What only the agent knows of a pod; lost, and safely so, when the agent restarts."""

    failures: dict[str, Failure] = field(default_factory=dict)
    back_offs: dict[str, BackOff] = field(default_factory=dict)
    kills: dict[str, float] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    hooked: set[str] = field(default_factory=set)
    ending_since: float = 0.0

    def forget_failures(self, reasons: Iterable[str]) -> None:
        """Lets what failed for one of these reasons be tried at once."""
        for key in [key for key, one in self.failures.items() if one.reason in reasons]:
            del self.failures[key]

    def delay(self, key: str, first: float) -> float:
        """How long to wait after one more failure of ``key``: doubling from ``first``."""
        earlier = self.failures.get(key)
        if earlier is None or not earlier.delay_seconds:
            return first
        return min(2 * earlier.delay_seconds, MAX_DELAY_SECONDS)


class Actions:
    """Carries out actions for one worker.

    Args:
        worker: whose pod it is.
    """

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._tools = worker.tools
        self._starter = Starter(worker.tools)
        self._said: set[str] = set()
        self._hooks: Hooks | None = None

    def _event(
        self, reason: str, message: str, *, container: str = "", warning: bool = True
    ) -> None:
        self._tools.recorder.pod(
            self._worker.pod, reason, message, container=container, warning=warning
        )

    # volumes

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

    # the sandbox

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

    def say_unhonoured(self) -> None:
        """Says once what the pod asks for and does not get on this node."""
        found = unhonoured.unhonoured(self._worker.pod)
        if self._tools.facts.abilities.selinux is False:
            found += unhonoured.unlabelled(self._worker.pod)
        for text in found:
            self._say_unhonoured(text)

    def _say_unhonoured(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._event("NotHonoured", text)

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

    def _retry(self, key: str, reason: str, message: str) -> None:
        self._event(reason, message)
        self._worker.fail(key, reason, message, KILL_RETRY_SECONDS)

    # containers

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

    # the end

    async def release_volumes(self) -> None:
        """Removes the volumes of a pod that the node has ended."""
        worker = self._worker
        try:
            await self._tools.volumes.remove(worker.uid)
        except (KedgeError, OSError) as error:
            self._retry(plan.VOLUMES, "FailedUnmount", f"volumes cannot be removed: {error}")
            return
        worker.volumes, worker.volumes_released = None, True

    async def clean_up(self) -> None:
        """Removes what is left on disk, then reports that the pod is gone, if anyone asked."""
        worker = self._worker
        try:
            await self._tools.volumes.remove(worker.uid)
        except (KedgeError, OSError) as error:
            self._retry(plan.CLEAN_UP, "FailedUnmount", f"volumes cannot be removed: {error}")
            return
        if __debug__:
            faults.point("pod.volumes.removed")
        remains.remove(self._tools.paths, self._tools.cgroups, worker.uid)
        device_admission.release(worker)
        worker.is_cleaned = True
        if not worker.is_gone:
            self._tools.reporter.pod_deleted(worker.pod)


def _make_directory(path: str) -> None:
    Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
