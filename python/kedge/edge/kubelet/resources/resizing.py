# SPDX-License-Identifier: Apache-2.0
"""Resizing a running pod's cpu and memory in place.

What the API wants is *desired*; what the node has agreed to is *allocated*, and that is what the worker's
pod says: so everything else goes on with what is true. A wish that the node can never grant is
Infeasible, one that others' pods stand in the way of is Deferred and tried again when one goes. Nothing
of it is written down but the pod's status: after a restart of the agent the last report says what was
allocated. Loaded when the first pod is resized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kedge.edge.kubelet.pod import lifecycle, plan
from kedge.edge.kubelet.pod.state import ContainerState, Resize
from kedge.edge.kubelet.pod.status import qos_class
from kedge.edge.kubelet.resources import resources
from kedge.edge.kubelet.resources.resources import Limits
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.edge.kubelet.pod.state import Container, Pod
    from kedge.edge.kubelet.resources.cgroups import Cgroups
    from kedge.edge.kubelet.worker import PodWorker

RESIZE = "resize"
"""The key of a resize among what is being worked on."""
RETRY_SECONDS = 5.0
DEFERRED_SECONDS = 60.0
_NANO = 10**9
_ENDLESS = 1 << 62


class ResizeError(RuntimeFailure):
    """The node agreed to a resize and cannot carry it out yet."""

    reason: ClassVar[str] = "ResizeError"


class Answer(NamedTuple):
    """What the node says to a wish; no reason means that it agrees."""

    reason: str = ""
    message: str = ""


def with_resources(pod: Pod, given: Pod) -> Pod:
    """The pod with the resources that ``given`` has; the same object if they are equal."""
    if not resources.differ(pod, given):
        return pod
    spec = dict(pod["spec"])
    known = {one["name"]: one.get("resources") for one in lifecycle.every_container(given)}
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [_with(one, known.get(one["name"])) for one in spec[field]]
    if "resources" in spec or "resources" in given["spec"]:
        spec["resources"] = given["spec"].get("resources") or {}
    return pod | {"spec": spec}


def _with(container: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    return container if container.get("resources") == found else container | {"resources": found}


def allocated_before(pod: Pod, status: dict[str, Any]) -> Pod:
    """The pod as it ran when its status was last reported."""
    known = {
        one["name"]: one["resources"]
        for one in (status.get("initContainerStatuses") or [])
        + (status.get("containerStatuses") or [])
        if "resources" in one and one.get("containerID")
    }
    spec = dict(pod["spec"])
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [
                _with(one, known[one["name"]]) if one["name"] in known else one
                for one in spec[field]
            ]
    if "resources" in status:
        spec["resources"] = status["resources"]
    return pod | {"spec": spec}


def answer(
    desired: Pod, allocated: Pod, others: Iterable[Pod], allocatable: Mapping[str, str]
) -> Answer:
    """Whether the node can give what is wanted; only more of something can be too much.

    Args:
        desired: the pod as the API wants it.
        allocated: the same as it runs.
        others: the node's other pods.
        allocatable: what all pods may ask for.
    """
    others = list(others)
    for name in ("cpu", "memory"):
        wanted = resources.pod_amount(desired, "requests", name)
        if name not in allocatable or wanted <= resources.pod_amount(allocated, "requests", name):
            continue
        limit = resources.nano(allocatable[name])
        unit = 10**6 if name == "cpu" else _NANO
        if wanted > limit:
            text = (
                f"Node didn't have enough capacity: {name}, requested: {wanted // unit}, "
                f"capacity: {limit // unit}"
            )
            return Answer("Infeasible", text)
        used = sum(resources.pod_amount(one, "requests", name) for one in others)
        if used + wanted > limit:
            text = (
                f"Node didn't have enough resource: {name}, requested: {wanted // unit}, "
                f"used: {used // unit}, capacity: {limit // unit}"
            )
            return Answer("Deferred", text)
    return Answer()


def must_restart(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a changed resource of a container wants it restarted (``resizePolicy``)."""
    policies = {
        one["resourceName"]: one.get("restartPolicy", "NotRequired")
        for one in after.get("resizePolicy") or []
    }
    return any(
        policies.get(name) == "RestartContainer"
        for name in ("cpu", "memory")
        for kind in ("limits", "requests")
        if _of(before, kind, name) != _of(after, kind, name)
    )


def _of(container: dict[str, Any], kind: str, name: str) -> Any:
    return ((container.get("resources") or {}).get(kind) or {}).get(name)


def needs_update(before: Pod, after: Pod, was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a container's own limits change, or those of the pod, which hold for one without any."""
    if (was.get("resources") or {}) != (now.get("resources") or {}):
        return True
    whole = before["spec"].get("resources") or {}, after["spec"].get("resources") or {}
    first, second = (one.get("limits") or {} for one in whole)
    return any(
        first.get(name) != second.get(name) and _of(now, "limits", name) is None
        for name in ("cpu", "memory")
    )


def larger(one: Limits, other: Limits) -> Limits:
    """For each limit the larger of two: what a pod needs while its containers change."""

    def most(first: int | None, second: int | None) -> int | None:
        if first is None or second is None:
            return None
        return -1 if first <= 0 or second <= 0 else max(first, second)

    return Limits(
        most(one.cpu_shares, other.cpu_shares),
        most(one.cpu_quota, other.cpu_quota),
        most(one.memory_bytes, other.memory_bytes),
    )


class Resizing:
    """One pod's way to other resources.

    Args:
        worker: whose pod it is.
        desired: the pod as the API wants it.
    """

    def __init__(self, worker: PodWorker, desired: Pod) -> None:
        self._worker = worker
        self._desired = desired
        self._said = ""
        self._tried_at = 0.0
        self.state = Resize()

    def want(self, desired: Pod) -> Pod:
        """A newer object; the same with the resources that are allocated."""
        self._desired = desired
        return with_resources(desired, self._worker.pod)

    def retry(self) -> None:
        """Another pod has gone or shrunk: there may be room."""
        if self.state.pending:
            self._worker.wake()

    def follow(self, now: float, others: Iterable[Pod]) -> None:
        """Answers the wish, and starts what follows from it."""
        worker = self._worker
        if RESIZE in worker.busy or worker.is_ending() or worker.ended is not None:
            return
        if not resources.differ(self._desired, worker.pod):
            worker.resizing = None
            return
        if now < self._tried_at + RETRY_SECONDS and self.state.error:
            worker.wake_at(self._tried_at + RETRY_SECONDS)
            return
        found = answer(self._desired, worker.pod, others, worker.tools.facts.allocatable)
        if found.reason:
            self.state = Resize(found.reason, found.message)
            self._event(f"Resize{found.reason}", found.message, warning=True)
            worker.wake_at(now + DEFERRED_SECONDS)
            return
        self._tried_at = now
        self.state = Resize(is_going_on=True, error=self.state.error)
        self._event("ResizeStarted", f"Pod resize started: {_summary(self._desired)}")
        worker.act(RESIZE, self._apply(with_resources(worker.pod, self._desired)))

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        if self._said != reason + message:
            self._said = reason + message
            self._worker.tools.recorder.pod(self._worker.pod, reason, message, warning=warning)

    async def _apply(self, target: Pod) -> None:
        """Room for the pod first, then its containers, those that shrink before the others."""
        worker, cgroups = self._worker, self._worker.tools.cgroups
        before = worker.pod
        pairs = [
            (was, now)
            for was, now in zip(
                lifecycle.every_container(before), lifecycle.every_container(target), strict=True
            )
            if needs_update(before, target, was, now)
        ]
        pairs.sort(key=lambda pair: _growth(*pair))
        try:
            if cgroups is not None:
                self._check_memory(cgroups, target)
                await cgroups.change(before, larger(cgroups.limits(before), cgroups.limits(target)))
            restarts = [now for was, now in pairs if must_restart(was, now)]
            for was, now in pairs:
                if not must_restart(was, now):
                    await self._update(target, now)
            if cgroups is not None and not restarts:
                await cgroups.change(before, _without_pages(cgroups.limits(target)))
        except (RuntimeFailure, OSError, ValueError) as error:
            self.state = Resize(is_going_on=True, error=str(error))
            self._event("ResizeError", f"Pod resize failed: {error}", warning=True)
            return
        worker.pod = with_resources(worker.pod, target)
        if cgroups is not None:
            cgroups.note(worker.pod)
        for one in restarts:
            await self._restart(one["name"])
        if cgroups is not None and restarts:
            await cgroups.change(worker.pod, _without_pages(cgroups.limits(worker.pod)))
        self.state = Resize()
        self._event("ResizeCompleted", f"Pod resize completed: {_summary(worker.pod)}")
        worker.resized()

    def _running(self, name: str) -> Container | None:
        for one in self._worker.latest_containers():
            if one.name == name and one.state is ContainerState.RUNNING:
                return one
        return None

    async def _update(self, target: Pod, container: dict[str, Any]) -> None:
        one = self._running(container["name"])
        if one is None:
            return
        linux = resources.linux_resources(
            qos_class(target), container, 0, pod_level=target["spec"].get("resources")
        )
        linux.pop("oom_score_adj", None)
        linux.pop("hugepage_limits", None)
        linux.setdefault("cpu_period", resources.CPU_PERIOD_MICROSECONDS)
        linux.setdefault("cpu_quota", -1)
        linux.setdefault("memory_limit_in_bytes", -1)
        linux["memory_swap_limit_in_bytes"] = linux["memory_limit_in_bytes"]
        await self._worker.tools.runtime.update_container_resources(one.id, linux)

    def _check_memory(self, cgroups: Cgroups, target: Pod) -> None:
        """A container must not be squeezed below what it uses: that would kill it."""
        from kedge.edge.kubelet.pressure import observe  # noqa: PLC0415 - only for a resize

        usage = observe.memory_usage(cgroups, self._worker)
        whole, total = _of(target["spec"], "limits", "memory"), usage.total
        if whole is not None and total > resources.whole(whole):
            raise ResizeError(
                f"attempting to set the pod's memory limit ({resources.whole(whole)}) "
                f"below current usage ({total})"
            )
        for one in lifecycle.every_container(target):
            limit, used = _of(one, "limits", "memory"), usage.containers.get(one["name"])
            if limit is not None and used is not None and used > resources.whole(limit):
                raise ResizeError(
                    f"attempting to set container {one['name']!r} memory limit "
                    f"({resources.whole(limit)}) below current usage ({used})"
                )

    async def _restart(self, name: str) -> None:
        one = self._running(name)
        if one is None:
            return
        grace = lifecycle.grace_seconds(self._worker.pod)
        text = f"Container {name} resize requires restart"
        action = plan.KillContainer(one.id, name, grace, text, is_replaced=True)
        await self._worker.kill(action)


def _growth(was: dict[str, Any], now: dict[str, Any]) -> int:
    """Below zero for a container that gives memory back."""
    sizes = [_of(one, "limits", "memory") for one in (was, now)]
    before, after = (resources.whole(one) if one is not None else _ENDLESS for one in sizes)
    return after - before


def _without_pages(limits: Limits) -> Limits:
    return Limits(limits.cpu_shares, limits.cpu_quota, limits.memory_bytes)


def _summary(pod: Pod) -> str:
    """The containers' resources in few words."""
    parts = []
    whole = {"name": "pod", "resources": pod["spec"].get("resources")}
    for one in (whole, *lifecycle.every_container(pod)):
        for kind in ("requests", "limits"):
            found = (one.get("resources") or {}).get(kind) or {}
            text = ",".join(f"{name}={found[name]}" for name in ("cpu", "memory") if name in found)
            if text:
                parts.append(f"{one['name']} {kind} {text}")
    return "; ".join(parts)
