# SPDX-License-Identifier: Apache-2.0
"""One pod's worker: observe, report, plan, act; again whenever something changed.

The loop itself never waits for the runtime: each action runs as a task of its own, marked busy
until it ends, and wakes the loop. So a pod's status and its deletion are never held up by a pull
or a slow stop. What the worker remembers is only what the runtime cannot tell; after an agent's
restart it goes on from the runtime and the last report.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, assert_never

from kedge import logs
from kedge.edge.kubelet.actions import acting
from kedge.edge.kubelet.actions.containers import ContainerActions
from kedge.edge.kubelet.actions.sandboxes import SandboxActions
from kedge.edge.kubelet.actions.volumes import VolumeActions
from kedge.edge.kubelet.admission import admission
from kedge.edge.kubelet.health import probing
from kedge.edge.kubelet.node.counts import pod_start
from kedge.edge.kubelet.pod import lifecycle, news, observe, plan
from kedge.edge.kubelet.pod.state import (
    Container,
    ContainerState,
    Ended,
    Failure,
    Observed,
    Pod,
    Sandbox,
)
from kedge.edge.kubelet.pod.status import Status, pod_status
from kedge.edge.kubelet.resources import resources

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from kedge.edge.kubelet.resources.resizing import Resizing
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.volumes import Prepared

_logger = logging.getLogger(__name__)
NEVER = float("inf")
DEFECT_RETRY_SECONDS = 10.0


class PodWorker:
    """Works on one pod until nothing of it is left.

    Args:
        pod: the desired object.
        tools: the kubelet's shared parts.
        sandboxes: what the runtime has of it already.
        containers: the same.
        was_gone: the object is not in the store any more; only the end is left to do.
    """

    def __init__(
        self,
        pod: Pod,
        tools: Tools,
        sandboxes: Mapping[str, Sandbox],
        containers: Mapping[str, Container],
        *,
        was_gone: bool = False,
    ) -> None:
        metadata = pod["metadata"]
        self.pod = pod
        self.uid: str = metadata["uid"]
        self.tools = tools
        self.sandboxes = dict(sandboxes)
        self.containers = dict(containers)
        self.volumes: dict[str, Prepared] | None = None
        self.busy: dict[str, asyncio.Task[None]] = {}
        self.pulling: set[str] = set()
        self.object_changes = 0
        self.memory = acting.Memory()
        self.is_gone = was_gone
        self.is_cleaned = False
        self.token_expired = False
        self.token_check_at = NEVER
        known = tools.reporter.known(metadata["namespace"], metadata["name"], self.uid)
        self.status: Status = known if known is not None else (pod.get("status") or {})
        self.began_at = tools.clock()
        self.volumes_released = False
        self.resizing: Resizing | None = None
        self.started_at = lifecycle.parse_time(self.status.get("startTime")) or tools.clock()
        self.log = logs.of(_logger, f"{metadata['namespace']}/{metadata['name']}")
        self.probing = probing.Probing(self)
        self._on_volumes = VolumeActions(self)
        self._on_sandboxes = SandboxActions(self)
        self._on_containers = ContainerActions(self)
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.ended = self._admit()
        if resources.reported_differ(pod, self.status):
            self._begin_resizing(pod)

    def _allocated(self, pod: Pod) -> Pod:
        """A newer object, with the resources that the node has agreed to."""
        if self.resizing is None and resources.differ(pod, self.pod):
            self._begin_resizing(pod)
        return pod if self.resizing is None else self.resizing.want(pod)

    def _begin_resizing(self, pod: Pod) -> None:
        from kedge.edge.kubelet.resources import resizing  # noqa: PLC0415 - few pods are ever resized

        if self.status.get("startTime"):
            if pod is self.pod:
                self.pod = resizing.allocated_before(pod, self.status)
            self.resizing = resizing.Resizing(self, pod)

    # what others tell it

    def update(self, pod: Pod) -> None:
        """A newer object of the same pod."""
        if pod["spec"] != self.pod["spec"]:
            self.log.info("the pod's spec changed")
        before, self.pod = self.pod["metadata"], self._allocated(pod)
        after = pod["metadata"]
        if self.volumes is not None and any(
            before.get(field) != after.get(field) for field in ("annotations", "labels")
        ):
            self._on_volumes.refresh_volumes()  # the downward API shows them
        if self.volumes is not None:
            self._on_volumes.say_unhonoured()
        self.wake()

    def gone(self) -> None:
        """The object has left the store."""
        self.is_gone = True
        self.wake()

    def resized(self) -> None:
        """The pod has other resources now: another may have room."""
        self.tools.room()
        self.wake()

    def end(self, ended: Ended) -> None:
        """The node ends the pod; its object stays, with the reason in its status."""
        if self.ended is None or not self.ended.is_final:
            self.ended = ended
            self.wake()

    def resume(self) -> None:
        """What was ended for a while may run again."""
        if self.ended is not None and not self.ended.is_final:
            self.ended = None
            self.wake()

    def objects_changed(self) -> None:
        """A ConfigMap, Secret or token of this pod changed: what waited for it is tried again."""
        self.object_changes += 1
        self.memory.forget_failures(acting.CONFIGURATION_REASONS)
        if self.volumes is not None:
            self._on_volumes.refresh_volumes()
        self.wake()

    def observe_sandbox(self, sandbox: Sandbox | None, sandbox_id: str) -> None:
        """The runtime has a sandbox of this pod in a new state, or no more."""
        if sandbox is None:
            self.sandboxes.pop(sandbox_id, None)
            for one in [one for one in self.containers.values() if one.sandbox_id == sandbox_id]:
                self.containers.pop(one.id, None)
        else:
            self.sandboxes[sandbox_id] = sandbox
        self.wake()

    def observe_container(self, container: Container | None, container_id: str) -> None:
        """The runtime has a container of this pod in a new state, or no more."""
        if container is None:
            self.tools.log_ended(container_id)
            self.containers.pop(container_id, None)
            self.memory.kills.pop(container_id, None)
            self._on_containers.container_ended(container_id)
        else:
            self.containers[container_id] = container
            if container.state is ContainerState.EXITED:
                self.memory.kills.pop(container_id, None)
                self._on_containers.container_ended(container_id)
        self.wake()

    async def refresh_container(self, container_id: str) -> None:
        """Asks the runtime how a container is now."""
        await self._on_containers.refresh_container(container_id)

    def wake(self) -> None:
        """Makes the worker look again."""
        self._wake.set()

    # the loop

    async def run(self) -> None:
        """Works until the pod has gone and nothing of it is left."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while not (self.is_gone and self.is_cleaned):
                    self._wake.clear()
                    self._look()
                    await self._wake.wait()
                self.probing.stop()
        finally:
            self._group = None
            self.tools.host_ports.release(self.uid)
            if self._timer is not None:
                self._timer.cancel()

    def _look(self) -> None:
        """One round. A defect in it is logged and tried again; other pods go on."""
        try:
            self._round()
        except Exception as error:  # one pod's odd object must not end the others
            self.log.exception("cannot be worked on")
            self.tools.recorder.pod(
                self.pod, "FailedSync", f"error determining status: {error!r}", warning=True
            )
            self.wake_at(self.tools.clock() + DEFECT_RETRY_SECONDS)

    def _round(self) -> None:
        now = self.tools.clock()
        observed = self.observed()
        self.probing.follow(observed)
        for one in observed.containers:
            if one.state is ContainerState.EXITED:
                self.tools.log_ended(one.id)
        if self.resizing is not None:
            self.resizing.follow(now, self.tools.others(self.uid))
            observed = self.observed()
        self._report(observed, now)
        is_ending = lifecycle.is_ending(self.pod, observed, now)
        self.memory.ending_since = (self.memory.ending_since or now) if is_ending else 0.0
        if is_ending:
            for name in self.pulling:
                self.busy[name].cancel()
        for action in plan.plan(self.pod, observed, now):
            self._begin(action, now)
        if now >= self.token_check_at:
            self._on_volumes.mark_expired_tokens(now)
            self.wake()
        self.wake_at(self.token_check_at)

    def is_ending(self) -> bool:
        """Whether the pod is to go."""
        return self.is_gone or lifecycle.is_terminating(self.pod)

    def has_stopped(self) -> bool:
        """Whether nothing of the pod runs or is being worked on."""
        runs = any(one.state is not ContainerState.EXITED for one in self.containers.values())
        return not runs and not self.busy

    def is_wound_down(self) -> bool:
        """Whether the pod has ended for good and nothing of it runs."""
        return self.has_stopped() and self.status.get("phase") in ("Failed", "Succeeded")

    def latest_containers(self) -> list[Container]:
        """The newest container of each name."""
        newest = {
            one.name: one for one in sorted(self.containers.values(), key=lambda one: one.attempt)
        }
        return list(newest.values())

    def observed(self) -> Observed:
        """Everything known of the pod now."""
        known = observe.lost(self.status, self.containers)
        return Observed(
            sandboxes=tuple(
                sorted(self.sandboxes.values(), key=lambda one: one.created_at, reverse=True)
            ),
            containers=observe.newest_first([*self.containers.values(), *known]),
            volumes_ready=self.volumes is not None,
            is_gone=self.is_gone,
            is_cleaned=self.is_cleaned,
            busy=frozenset(self.busy),
            failures=self.memory.failures,
            back_offs=self.memory.back_offs,
            health=self.probing.health,
            kills=self.memory.kills,
            replaced=frozenset(self.memory.replaced),
            hooked=frozenset(self.memory.hooked),
            ending_since=self.memory.ending_since,
            started_at=self.started_at,
            token_expired=self.token_expired,
            ended=self.ended,
            resize=self.resizing.state if self.resizing is not None else None,
            volumes_released=self.volumes_released,
            dead_kept=self.tools.facts.dead_kept,
            dead_age_seconds=self.tools.facts.dead_age_seconds,
        )

    def _report(self, observed: Observed, now: float) -> None:
        if self.is_gone or self.is_cleaned or self._is_past():
            return
        status = pod_status(self.pod, observed, self.status, self.tools.facts.host(), now)
        if status == self.status:
            return
        if status["phase"] == "Running" and self.status.get("phase") in (None, "Pending"):
            pod_start.add(max(0.0, now - self.began_at))
        news.say(self.tools.recorder, self.pod, self.status, status)
        if status["phase"] in ("Succeeded", "Failed"):
            self.tools.host_ports.release(self.uid)
        self.status = status
        self.tools.reporter.pod_status(self.pod, status, urgent=news.is_urgent(status))

    def _is_past(self) -> bool:
        """The pod ended before this agent knew it: what the API says of it stays."""
        return lifecycle.is_terminal(self.pod) and "containerStatuses" not in self.status

    def _begin(self, action: plan.Action, now: float) -> None:
        volumes, sandboxes, containers = self._on_volumes, self._on_sandboxes, self._on_containers
        match action:
            case plan.Wait():
                self.wake_at(action.until)
            case plan.PrepareVolumes():
                self.pulling.add(plan.VOLUMES)
                self._run(plan.VOLUMES, volumes.prepare_volumes())
            case plan.CreateSandbox():
                self._run(plan.SANDBOX, sandboxes.create_sandbox(action))
            case plan.StopSandbox():
                self._run(plan.SANDBOX, sandboxes.stop_sandbox(action.id))
            case plan.RemoveSandbox():
                self._run(plan.SANDBOX, sandboxes.remove_sandbox(action.id))
            case plan.StartContainer():
                self._run(action.name, containers.start_container(action))
            case plan.KillContainer():
                self.memory.kills[action.id] = now + action.grace_seconds
                self._run("", containers.kill_container(action))
            case plan.RunStopHook():
                containers.run_stop_hook(action)
            case plan.RemoveContainer():
                self._run(action.name, containers.remove_container(action))
            case plan.ReleaseVolumes():
                self._run(plan.VOLUMES, volumes.release_volumes())
            case plan.CleanUp():
                self._run(plan.CLEAN_UP, volumes.clean_up())
            case _:
                assert_never(action)

    def act(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Works on something beside what is planned."""
        self._run(key, work)

    async def kill(self, action: plan.KillContainer) -> None:
        """Stops a container, as a planned stop does."""
        self.memory.kills[action.id] = self.tools.clock() + action.grace_seconds
        await self._on_containers.kill_container(action)

    def _run(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = self.spawn(self._guard(key, work))
        if key:
            self.busy[key] = task

    async def _guard(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            if not self.is_ending() and self.ended is None:
                raise
        except Exception as error:  # as in _look
            self.log.exception("an action failed unexpectedly")
            self.fail(key, "FailedSync", repr(error), DEFECT_RETRY_SECONDS)
        finally:
            self.pulling.discard(key)
            self.busy.pop(key, None)
            self.wake()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something beside the loop, for as long as the worker does."""
        if self._group is None:
            raise RuntimeError("the worker does not run")
        return self._group.create_task(work)

    def wake_at(self, when: float) -> None:
        """Makes the worker look again at that time, or earlier if it is to already."""
        if when == NEVER:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, when - self.tools.clock())
        if (
            self._timer is not None
            and not self._timer.cancelled()
            and loop.time() < self._timer.when() <= due
        ):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due + 0.005, self.wake)

    def fail(self, key: str, reason: str, message: str, delay_seconds: float) -> None:
        """Remembers why an attempt failed and when the next one is due."""
        now = self.tools.clock()
        self.memory.failures[key] = Failure(
            reason, message, now, now + delay_seconds, delay_seconds
        )

    def _admit(self) -> Ended | None:
        """What speaks against the pod; what runs here already, or is to go, is not asked again."""
        earlier = admission.restored(self.status)
        if earlier is not None or self.is_gone or self.is_ending() or self._is_past():
            return earlier
        if self.sandboxes or self.containers:
            self.tools.host_ports.hold(self.pod)
            return None
        is_new = not self.status.get("startTime")
        return admission.admit(self.pod, self.tools, is_new=is_new)
