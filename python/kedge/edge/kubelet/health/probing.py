# SPDX-License-Identifier: Apache-2.0
"""Keeps a prober running for each running container of a pod that has probes."""

from __future__ import annotations

import logging
from binascii import crc32
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.health import probes
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.state import Container, ContainerState, Health, Observed
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    import asyncio

    from kedge.edge.kubelet.worker import PodWorker

_log = logging.getLogger(__name__)


class Inside:
    """A container as its probes and hooks see it."""

    def __init__(self, worker: PodWorker, container_id: str) -> None:
        self._worker = worker
        self._id = container_id

    async def execute(self, command: list[str], timeout_seconds: float) -> tuple[int, str]:
        """Runs a command inside; exit code and output."""
        try:
            result = await self._worker.tools.runtime.exec_sync(self._id, command, timeout_seconds)
        except RuntimeFailure as error:
            return -1, str(error)
        return result.exit_code, (result.stdout + result.stderr).decode("utf-8", "replace")

    async def ask(self, what: dict[str, Any], timeout_seconds: float) -> tuple[bool, str]:
        """Makes a network probe; whether it succeeded, and what to show if not."""
        return await self._worker.tools.prober.probe(what, timeout_seconds)

    def address(self) -> str:
        """The pod's address; the node's own on the host network."""
        if self._worker.pod["spec"].get("hostNetwork"):
            return next(iter(self._worker.tools.facts.addresses), "127.0.0.1")
        sandbox = self._worker.observed().sandbox()
        return sandbox.ips[0] if sandbox and sandbox.ips else ""


class Probing:
    """The probers of one pod.

    Args:
        worker: whose containers are probed.
    """

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._adopted = frozenset(worker.containers)
        self.health: dict[str, Health] = {}
        self.results: dict[tuple[str, str, bool], int] = {}

    def follow(self, observed: Observed) -> None:
        """Starts probers for containers that run, stops those of containers that do not."""
        worker = self._worker
        is_ending = worker.is_ending()
        wanted: dict[str, Container] = {}
        for one in observed.containers:
            if one.state is ContainerState.RUNNING and not one.is_lost:
                wanted[one.id] = one
        for container_id in [one for one in self.health if one not in wanted]:
            del self.health[container_id]
        for container_id in [one for one in self._tasks if is_ending or one not in wanted]:
            self._tasks.pop(container_id).cancel()
        if is_ending:
            return
        for one in wanted.values():
            spec = lifecycle.find_container(worker.pod, one.name)
            if one.id not in self.health and spec is not None and probes.has_probes(spec):
                self._start(one, spec)

    def _start(self, one: Container, spec: dict[str, object]) -> None:
        self.health[one.id] = probes.initial_health(spec)

        def changed(health: Health) -> None:
            self.health[one.id] = health
            self._worker.wake()

        def unhealthy(kind: str, output: str) -> None:
            text = f"{kind.capitalize()} probe failed: {output}"
            self._worker.tools.recorder.pod(
                self._worker.pod, "Unhealthy", text, container=one.name, warning=True
            )

        def counted(kind: str, ok: bool) -> None:  # noqa: FBT001 - the result itself
            key = (one.name, kind, ok)
            self.results[key] = self.results.get(key, 0) + 1

        target = Inside(self._worker, one.id)
        prober = probes.Prober(spec, target, changed=changed, unhealthy=unhealthy, counted=counted)
        age = max(0.0, self._worker.tools.clock() - one.started_at)
        # A restarted agent finds many containers at once: their probes are spread.
        spread = crc32(one.id.encode()) / 2**32 if one.id in self._adopted else 0.0
        self._tasks[one.id] = self._worker.spawn(prober.run(age, self._was_ready(one), spread))

    def _was_ready(self, one: Container) -> bool:
        """Whether the last report, perhaps of an earlier agent, had this very container ready."""
        status = self._worker.status
        for found in lifecycle.container_statuses(status):
            if found.get("name") == one.name and str(found.get("containerID", "")).endswith(one.id):
                return bool(found.get("ready"))
        return False

    def stop(self) -> None:
        """Ends all probers."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
