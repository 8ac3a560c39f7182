# SPDX-License-Identifier: Apache-2.0
"""Watches the node's resources, relieves them, and refuses pods while they are short.

First what nobody uses goes (dead containers, images), where that can help; then one pod at a time,
in the order of ``ranking``, each given time to be gone before the next. A pod over its own limits of
local storage goes at any time. Nothing is measured per pod while nothing is near.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kedge import metrics
from kedge.edge.kubelet.node.node_info import Pressure
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.state import ContainerState, Ended
from kedge.edge.kubelet.pod.status import qos_class
from kedge.edge.kubelet.pressure import decide, observe
from kedge.edge.kubelet.pressure.decide import Usage
from kedge.edge.kubelet.pressure.thresholds import SIGNALS, Threshold
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.pods import Pods
    from kedge.edge.kubelet.pressure.collect import Collector
    from kedge.edge.kubelet.pressure.decide import Reading
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker

LOOK_SECONDS = 10.0
PRESSED_SECONDS = 1.0
COLLECT_SECONDS = 300.0
RUNTIME_SECONDS = 5.0
"""A runtime that hangs must not keep the node from being looked at."""
GONE_SECONDS = 30.0
"""How long an evicted pod may take to be gone before the next one is chosen."""
HARD_GRACE_SECONDS = 1
MEMORY_TAINT = "node.kubernetes.io/memory-pressure"
_WORDS = {
    "MemoryPressure": (
        "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
        "KubeletHasSufficientMemory", "kubelet has sufficient memory available",
    ),
    "DiskPressure": (
        "KubeletHasDiskPressure", "kubelet has disk pressure",
        "KubeletHasNoDiskPressure", "kubelet has no disk pressure",
    ),
    "PIDPressure": (
        "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
        "KubeletHasSufficientPID", "kubelet has sufficient PID available",
    ),
}  # fmt: skip

_log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """From the configuration.

    Attributes:
        thresholds: of eviction.
        transition_seconds: how long a condition outlives its cause.
        most_grace_seconds: a pod's grace at a soft threshold.
        image_high_percent: of the images' disk in use, above which images go.
        image_low_percent: down to which.
        image_minimum_age_seconds: what was pulled since then stays.
        image_maximum_age_seconds: what nobody used for so long goes anyway; 0 for never.
        dead_containers: of the whole node that are kept; less than 0 for no limit.
        dead_age_seconds: a container that ended since then stays.
    """

    thresholds: tuple[Threshold, ...] = ()
    transition_seconds: float = 300.0
    most_grace_seconds: int = 0
    image_high_percent: int = 85
    image_low_percent: int = 80
    image_minimum_age_seconds: float = 120.0
    image_maximum_age_seconds: float = 0.0
    dead_containers: int = -1
    dead_age_seconds: float = 0.0


class PressureManager:
    """One for the node.

    Args:
        settings: from the configuration.
        tools: the kubelet's shared parts.
        pods: all of them.
        disk: the node's directory, which is on the file system of pods.
        changed: told when a condition of the node came or went, or its images did.
    """

    def __init__(
        self,
        settings: Settings,
        tools: Tools,
        pods: Pods,
        disk: Path,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._pods = pods
        self._hopeless: set[Threshold] = set()
        self._disk = disk
        self._changed = changed
        self._memory = decide.Memory()
        self._leaving: tuple[PodWorker, float] | None = None
        self._images_at = self._began = tools.clock()
        self._images: Path | None = None
        self._made: Collector | None = None
        self.conditions: frozenset[str] = frozenset()

    def pressures(self) -> list[Pressure]:
        """The node's conditions."""
        found = []
        for kind, words in _WORDS.items():
            is_under = kind in self.conditions
            reason, message = words[:2] if is_under else words[2:]
            found.append(Pressure(kind, is_under=is_under, reason=reason, message=message))
        return found

    def refusal(self, pod: Pod) -> str:
        """Why a new pod may not start now; empty if it may.

        Under memory pressure alone, pods with requests still may, and those that tolerate its taint.
        """
        if not self.conditions or lifecycle.is_critical(pod):
            return ""
        if self.conditions == {"MemoryPressure"} and (
            qos_class(pod) != "BestEffort" or _tolerates_memory_pressure(pod)
        ):
            return ""
        return f"The node had condition: [{' '.join(sorted(self.conditions))}]. "

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                is_pressed = await self.look()
            except Exception:  # a defect here must not end the agent
                _log.exception("the node's resources cannot be watched")
                is_pressed = False
            await asyncio.sleep(PRESSED_SECONDS if is_pressed else LOOK_SECONDS)

    async def look(self) -> bool:
        """One look; whether the next one is to be soon.

        Until the pods are known only the conditions follow from it.
        """
        now = self._tools.clock()
        settings, readings = self._settings, await self._readings()
        verdict = decide.decide(
            settings.thresholds, readings, self._memory, now, settings.transition_seconds
        )
        self._remember(verdict, readings)
        if not self._pods.is_adopted:
            return True
        await self._enforce_limits()
        if now >= self._images_at + COLLECT_SECONDS and self._pods.is_complete:
            self._images_at = now
            await self._collect(readings)
        return bool(verdict.due) and await self._relieve(verdict.due[0], readings, now)

    def _remember(self, verdict: decide.Verdict, readings: Mapping[str, Reading]) -> None:
        """Says what is new."""
        for one in verdict.memory.met:
            if one not in self._memory.met:
                left = readings[one.signal]
                _log.warning(
                    "threshold met signal=%s wanted=%s available=%d of=%d",
                    one.signal, one.least.text, left.available, left.capacity,
                )  # fmt: skip
        self._memory = verdict.memory
        if verdict.conditions != self.conditions:
            self.conditions = verdict.conditions
            self._changed()

    async def _readings(self) -> dict[str, Reading]:
        if self._images is None:
            with contextlib.suppress(RuntimeFailure, TimeoutError):
                async with asyncio.timeout(RUNTIME_SECONDS):
                    found = await self._tools.runtime.image_filesystems()
                if found and found[0].mountpoint:
                    self._images = Path(found[0].mountpoint)
        return observe.readings(self._disk, self._images)

    async def _collect(self, readings: Mapping[str, Reading]) -> None:
        """What is due every five minutes: images when their disk is full, and what is too old."""
        settings, left = self._settings, readings.get("imagefs.available")
        is_full = (
            left is not None
            and left.capacity > 0
            and 100 - left.available * 100 // left.capacity >= settings.image_high_percent
        )
        try:
            if settings.dead_containers >= 0:
                await self._collector.limit_dead()
            if settings.image_maximum_age_seconds > 0:
                await self._collector.remove_old()
            if is_full and left is not None:
                wanted = left.capacity * (100 - settings.image_low_percent) // 100
                await self._collector.make_room(wanted - left.available)
        except RuntimeFailure as error:
            self._tools.recorder.node("ImageGCFailed", str(error), warning=True)

    @property
    def _collector(self) -> Collector:
        if self._made is None:
            from kedge.edge.kubelet.images.imported import Imported  # noqa: PLC0415 - rarely needed
            from kedge.edge.kubelet.pressure import collect  # noqa: PLC0415 - as above

            self._made = collect.Collector(
                self._tools, self._pods.workers, self._settings, self._began, Imported(self._disk)
            )
        return self._made

    # one threshold

    async def _relieve(self, one: Threshold, readings: Mapping[str, Reading], now: float) -> bool:
        """Frees what is short; whether a pod is on its way out for it."""
        from kedge.edge.kubelet.pressure import ranking  # noqa: PLC0415 - rarely needed

        if self._is_waiting(now):
            return True
        resource, is_shared = SIGNALS[one.signal], self._is_one_disk()
        is_disk = resource in ("ephemeral-storage", "inodes")
        layers = is_disk and (is_shared or one.signal.startswith("imagefs"))
        text = f"Attempting to reclaim {resource}"
        self._tools.recorder.node("EvictionThresholdMet", text, warning=True)
        if layers and self._pods.is_complete:
            await self._collector.reclaim()
            readings = dict(readings) | await self._readings()
            if not decide.is_met(one, readings[one.signal], with_reclaim=True):
                return False
        running = {one.uid: one for one in self._pods.workers() if _runs(one)}
        local = is_shared or one.signal.startswith("nodefs")
        usages = await self._usages(running, resource, layers=layers, local=local)
        ranked = ranking.rank([one.pod for one in running.values()], usages, resource)
        if not ranked:
            if one not in self._hopeless:
                _log.error("%s runs short and no pod may be evicted for it", resource)
                self._hopeless.add(one)
            return False
        self._hopeless.discard(one)
        worker = running[ranked[0]["metadata"]["uid"]]
        usage = usages.get(worker.uid, Usage())
        message = ranking.message(worker.pod, one, readings[one.signal], usage)
        grace = HARD_GRACE_SECONDS if one.is_hard else self._settings.most_grace_seconds
        self.evict(worker, one.signal, message, grace, is_disruption=True)
        self._leaving = (worker, now)
        return True

    def _is_waiting(self, now: float) -> bool:
        """Whether the pod evicted last is still on its way out."""
        if self._leaving is None:
            return False
        worker, since = self._leaving
        if now < since + GONE_SECONDS and not worker.is_wound_down():
            return True
        self._leaving = None
        return False

    def evict(
        self, worker: PodWorker, signal: str, message: str, grace: int, *, is_disruption: bool
    ) -> None:
        """Ends a pod for good, for what the kubelet calls ``signal`` in its figures."""
        metrics.count("kubelet_evictions", eviction_signal=signal)
        worker.log.warning("evicted: %s", message)
        self._tools.recorder.pod(worker.pod, "Evicted", message, warning=True)
        worker.end(Ended("Evicted", message, grace, is_disruption=is_disruption))

    def _is_one_disk(self) -> bool:
        """Whether images and pods share a file system."""
        path = self._images
        try:
            return path is None or path.stat().st_dev == self._disk.stat().st_dev
        except OSError:
            return True

    async def _usages(
        self, running: dict[str, PodWorker], resource: str, *, layers: bool, local: bool
    ) -> dict[str, Usage]:
        cgroups = self._tools.cgroups
        if resource in ("ephemeral-storage", "inodes"):
            disk = await observe.disk_usage(
                self._tools, running.values(), layers=layers, local=local
            )
            return {uid: disk.usage(uid, resource) for uid in running}
        if cgroups is None:
            return {}
        read = observe.memory_usage if resource == "memory" else observe.process_usage
        return {uid: read(cgroups, worker) for uid, worker in running.items()}

    # limits of pods

    async def _enforce_limits(self) -> None:
        limited = [
            one
            for one in self._pods.workers()
            if _runs(one) and observe.has_storage_limits(one.pod)
        ]
        if not limited:
            return
        from kedge.edge.kubelet.pressure import ranking  # noqa: PLC0415 - rarely needed

        disk = await observe.disk_usage(self._tools, limited)
        for worker in limited:
            uid = worker.uid
            signal, text = ranking.limit_exceeded(
                worker.pod, disk.containers[uid], disk.volumes[uid], disk.totals[uid]
            )
            if text and not lifecycle.is_critical(worker.pod):
                self.evict(worker, signal, text, HARD_GRACE_SECONDS, is_disruption=False)


def _runs(worker: PodWorker) -> bool:
    """Whether evicting it would free anything."""
    if worker.ended is not None or worker.is_ending():
        return False
    return any(one.state is not ContainerState.EXITED for one in worker.containers.values())


def _tolerates_memory_pressure(pod: Pod) -> bool:
    for one in pod["spec"].get("tolerations") or []:
        if one.get("effect") not in (None, "", "NoSchedule"):
            continue
        if one.get("key") == MEMORY_TAINT or (
            not one.get("key") and one.get("operator") == "Exists"
        ):
            return True
    return False
