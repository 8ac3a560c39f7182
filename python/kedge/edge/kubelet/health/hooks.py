# SPDX-License-Identifier: Apache-2.0
"""Lifecycle hooks: what is run right after a container's start and right before its stop.

``postStart`` belongs to the start: until it has ended the container counts as not started, and when
it fails the container is stopped again. ``preStop`` runs inside the grace; what it leaves of it is
the container's. A container that ends by itself, and a pod that is to go, cut a hook short.

Events say that a hook failed and how, never what it printed: that may hold secrets. Loaded when the
first pod with a hook comes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from kedge import faults
from kedge.edge.kubelet.health import checks
from kedge.edge.kubelet.health.probing import Inside
from kedge.edge.kubelet.pod import stopping
from kedge.edge.kubelet.starter import PostStartHookError
from kedge.errors import KedgeError, RuntimeFailure

if TYPE_CHECKING:
    from kedge.edge.kubelet.worker import PodWorker

EXEC_SECONDS = 3600.0
"""The longest command of a start hook: nothing waits for ever, but images warm caches in it."""
HTTP_SECONDS = 300.0
SLOW_SECONDS = 10.0
"""After this long an Event and the container's status say that its start hook still runs."""


class HookError(RuntimeFailure):
    """A hook failed; says how, not with what output."""

    reason: ClassVar[str] = "HookFailed"


class Hooks:
    """Runs the hooks of one pod.

    Args:
        worker: whose pod it is.
    """

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._awaited: set[str] = set()

    async def after_start(self, container_id: str, container: dict[str, Any]) -> None:
        """Runs the start hook to its end.

        Raises:
            PostStartHookError: it failed.
        """
        hook = container["lifecycle"]["postStart"]
        name = container["name"]
        loop = asyncio.get_running_loop()
        slow = loop.call_later(SLOW_SECONDS, self._say_slow, name, _kind(hook))
        if __debug__:
            faults.point("container.post_start.asked")
        try:
            await self._run(container_id, container, hook, 0)
            if __debug__:
                faults.point("container.post_start.ended")
        except KedgeError as error:
            self._event("FailedPostStartHook", f"PostStartHook failed: {error}", name)
            raise PostStartHookError(str(error)) from error
        finally:
            slow.cancel()
            self._worker.memory.failures.pop(name, None)

    def _say_slow(self, name: str, kind: str) -> None:
        if kind == "sleep":
            return
        text = f"PostStartHook ({kind}) has not ended after {SLOW_SECONDS:.0f}s"
        self._event("SlowPostStartHook", text, name)
        self._worker.fail(name, "ContainerCreating", text, 0.0)
        self._worker.wake()

    def begin_stop(self, container_id: str, container: dict[str, Any], grace: int) -> None:
        """Begins a stop hook, if it was not begun."""
        hook = (container.get("lifecycle") or {}).get("preStop")
        if not hook or grace <= 0 or container_id in self._stopping:
            return
        work = self._before_stop(container_id, container, hook, grace)
        self._stopping[container_id] = self._worker.spawn(work)

    async def finish_stop(self, container_id: str, container: dict[str, Any], grace: int) -> int:
        """Runs the stop hook to its end, or what is left of it.

        Returns:
            How much of the grace is left for the container itself. A second stop of the same
            container does not wait for the hook again.
        """
        self.begin_stop(container_id, container, grace)
        task = self._stopping.get(container_id)
        if task is None or container_id in self._awaited:
            return grace
        self._awaited.add(container_id)
        began = asyncio.get_running_loop().time()
        _, unfinished = await asyncio.wait({task}, timeout=grace)
        if unfinished:
            task.cancel()
            text = f"PreStopHook not completed in grace period of {grace}s"
            self._event("FailedPreStopHook", text, container["name"])
        return stopping.remaining(grace, asyncio.get_running_loop().time() - began)

    def cut(self, container_id: str) -> None:
        """The container has ended: whatever hook still runs is pointless."""
        task = self._stopping.pop(container_id, None)
        self._awaited.discard(container_id)
        if task is not None:
            task.cancel()

    async def _before_stop(
        self, container_id: str, container: dict[str, Any], hook: dict[str, Any], grace: int
    ) -> None:
        if __debug__:
            faults.point("container.pre_stop.asked")
        try:
            await self._run(container_id, container, hook, grace)
            if __debug__:
                faults.point("container.pre_stop.ended")
        except KedgeError as error:
            text = f"PreStopHook failed: {error}"
            self._event("FailedPreStopHook", text, container["name"])

    async def _run(
        self, container_id: str, container: dict[str, Any], hook: dict[str, Any], grace: int
    ) -> None:
        try:
            await self._make(container_id, container, hook, grace)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise HookError(f"{_kind(hook)}: {error}") from error

    async def _make(
        self, container_id: str, container: dict[str, Any], hook: dict[str, Any], grace: int
    ) -> None:
        inside = Inside(self._worker, container_id)
        if "exec" in hook:
            command = hook["exec"].get("command") or []
            code, _ = await inside.execute(command, grace or EXEC_SECONDS)
            if code != 0:
                raise HookError(f"exec ended with code {code}" if code > 0 else "exec failed")
        elif "httpGet" in hook:
            await _ask(inside, container, hook, grace or HTTP_SECONDS)
        elif "sleep" in hook:
            await asyncio.sleep(hook["sleep"].get("seconds") or 0)
        else:
            raise HookError(f"wanted exec, httpGet or sleep, got: {_kind(hook)}")

    def _event(self, reason: str, text: str, name: str) -> None:
        worker = self._worker
        worker.tools.recorder.pod(worker.pod, reason, text, container=name, warning=True)


async def _ask(
    inside: Inside, container: dict[str, Any], hook: dict[str, Any], seconds: float
) -> None:
    """Any answer will do: the kubelet does not look at the status of a hook's request."""
    request = checks.request(hook, container, inside.address()) | {"any_status": True}
    has_answered, why = await inside.ask(request, seconds)
    if not has_answered:
        raise HookError(f"httpGet: {why}")


def _kind(hook: dict[str, Any]) -> str:
    return next(iter(hook), "nothing")
