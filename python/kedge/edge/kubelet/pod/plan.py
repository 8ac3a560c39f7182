# SPDX-License-Identifier: Apache-2.0
"""What to do next for one pod, from what is desired and what is observed.

Pure: no clock, no runtime, no store. The worker in ``pods`` calls ``plan`` whenever something
changed, starts every action that is returned and marks it busy; what is busy is not asked for
again. A plan is right when repeating it after a crash at any point ends in the same place.

Order for a living pod: volumes, sandbox, initial containers one by one, then all regular
containers at once. For a dying one: containers, sandbox, what is left on disk, the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.edge.kubelet.pod import lifecycle, stopping
from kedge.edge.kubelet.pod.state import (
    BackOff,
    Container,
    ContainerState,
    Observed,
    Pod,
    Sandbox,
)

SANDBOX = "sandbox"
VOLUMES = "volumes"
CLEAN_UP = "clean up"
NEVER = float("inf")
STOPPING_MESSAGE = "Stopping container {name}"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    """Give every volume its host path."""


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """Make the sandbox and its network."""

    attempt: int


@dataclass(frozen=True, slots=True)
class StopSandbox:
    """Stop a finished pod's sandbox; its containers stay for their logs."""

    id: str


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """Stop and remove a sandbox with all that is in it."""

    id: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Pull what is missing, create, start; remember the back-off for the next time."""

    name: str
    attempt: int
    sandbox_id: str
    back_off: BackOff | None


@dataclass(frozen=True, slots=True)
class KillContainer:
    """TERM, wait, KILL."""

    id: str
    name: str
    grace_seconds: int
    message: str
    is_replaced: bool = False


@dataclass(frozen=True, slots=True)
class RunStopHook:
    """The hook of a sidecar whose turn to be stopped is still to come."""

    id: str
    name: str
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove a container that does not run."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ReleaseVolumes:
    """Give back what an evicted pod has on disk; its object stays."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Remove the pod's volumes and directories, then say that it is gone."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before then, unless something changes."""

    until: float


Action = (
    PrepareVolumes
    | CreateSandbox
    | StopSandbox
    | RemoveSandbox
    | StartContainer
    | KillContainer
    | RunStopHook
    | RemoveContainer
    | ReleaseVolumes
    | CleanUp
    | Wait
)


def plan(pod: Pod, observed: Observed, now: float) -> tuple[Action, ...]:
    """The actions that are due now.

    Args:
        pod: the desired object.
        observed: everything known of it on this node.
        now: seconds since the epoch.
    """
    if observed.is_cleaned:
        return ()
    if observed.is_gone or lifecycle.is_terminating(pod):
        return _gather(_terminate(pod, observed, now))
    if observed.ended is not None:
        return _gather(_end(pod, observed, now))
    if lifecycle.has_exceeded_deadline(pod, observed.started_at, now):
        return _gather(_wind_down(pod, observed, now, DEADLINE_MESSAGE))
    if lifecycle.is_finished(pod, observed):
        return _gather(_wind_down(pod, observed, now, STOPPING_MESSAGE))
    actions = _converge(pod, observed, now)
    limit = pod["spec"].get("activeDeadlineSeconds")
    if limit is not None and observed.started_at > 0:
        actions.append(Wait(observed.started_at + limit))
    return _gather(actions)


def _gather(actions: list[Action]) -> tuple[Action, ...]:
    """The same with at most one ``Wait``, the earliest."""
    waits = [action.until for action in actions if isinstance(action, Wait)]
    others = [action for action in actions if not isinstance(action, Wait)]
    return (*others, Wait(min(waits))) if waits else tuple(others)


def _terminate(pod: Pod, observed: Observed, now: float) -> list[Action]:
    alive = _alive(observed)
    if alive:
        return _stop(pod, alive, observed, now, STOPPING_MESSAGE)
    if observed.busy:
        return []
    if observed.sandboxes:
        return _unless_waiting(SANDBOX, RemoveSandbox(observed.sandboxes[0].id), observed, now)
    return _unless_waiting(CLEAN_UP, CleanUp(), observed, now)


def _end(pod: Pod, observed: Observed, now: float) -> list[Action]:
    """What the node has decided to end: containers, sandbox, then what it has on disk."""
    grace = lifecycle.grace_seconds(pod)
    ended = observed.ended
    if ended is not None and ended.grace_seconds is not None:
        grace = min(grace, ended.grace_seconds)
    actions = _wind_down(pod, observed, now, STOPPING_MESSAGE, grace)
    is_over = not actions and not _alive(observed) and not observed.busy
    if is_over and ended is not None and ended.is_final and not observed.volumes_released:
        return _unless_waiting(VOLUMES, ReleaseVolumes(), observed, now)
    return actions


def _wind_down(
    pod: Pod, observed: Observed, now: float, why: str, grace: int | None = None
) -> list[Action]:
    alive = _alive(observed)
    if alive:
        return _stop(pod, alive, observed, now, why, grace)
    sandbox = observed.sandbox()
    if sandbox is not None and not observed.busy:
        return _unless_waiting(SANDBOX, StopSandbox(sandbox.id), observed, now)
    return []


def _stop(  # noqa: PLR0917 - all of it decides
    pod: Pod,
    alive: list[Container],
    observed: Observed,
    now: float,
    message: str,
    grace: int | None = None,
) -> list[Action]:
    """Stops what is due of a pod that ends; sidecars that wait run their hooks already."""
    seconds = lifecycle.grace_seconds(pod) if grace is None else grace
    due = stopping.turn(pod, alive)
    actions: list[Action] = []
    for one in due:
        left = stopping.seconds_left(pod, one.name, seconds, observed.ending_since, now)
        actions += _kills([one], observed, left, now, message)
    for one in stopping.waiting_hooks(pod, alive, due):
        if one.id not in observed.hooked:
            actions.append(RunStopHook(one.id, one.name, seconds))
    return actions


def _alive(observed: Observed) -> list[Container]:
    ended = (ContainerState.EXITED, ContainerState.CREATED)
    return [one for one in observed.containers if one.state not in ended and not one.is_lost]


def _kills(
    containers: list[Container], observed: Observed, grace: int, now: float, message: str
) -> list[Action]:
    """A stop for each container, unless one is running that ends as early, to the second."""
    actions: list[Action] = []
    for one in containers:
        if observed.kills.get(one.id, NEVER) >= now + grace + 1:
            kill = KillContainer(one.id, one.name, grace, message.format(name=one.name))
            actions += _unless_waiting(one.id, kill, observed, now)
    return actions


def _converge(pod: Pod, observed: Observed, now: float) -> list[Action]:
    if not observed.volumes_ready:
        return _unless_waiting(VOLUMES, PrepareVolumes(), observed, now)
    sandbox = observed.sandbox()
    stale = [one for one in observed.sandboxes if one is not sandbox]
    if SANDBOX not in observed.busy:
        if stale:
            return _unless_waiting(SANDBOX, RemoveSandbox(stale[-1].id), observed, now)
        if sandbox is None:
            return _unless_waiting(SANDBOX, CreateSandbox(_next_attempt(observed)), observed, now)
    if sandbox is None:
        return []
    actions = _tidy(observed, now) + _look_in(pod, sandbox, observed, now)
    if lifecycle.is_initialized(pod, observed):
        for container in lifecycle.lasting_containers(pod):
            if lifecycle.is_sidecar(container) or not lifecycle.is_initial(pod, container):
                actions += _advance(pod, container, sandbox, observed, now)
    else:
        actions += _initialize(pod, sandbox, observed, now)
    return actions


def _next_attempt(observed: Observed) -> int:
    return max((one.attempt for one in observed.sandboxes), default=-1) + 1


def _unless_waiting(key: str, action: Action, observed: Observed, now: float) -> list[Action]:
    if key in observed.busy:
        return []
    failure = observed.failures.get(key)
    if failure is not None and now < failure.retry_at:
        return [Wait(failure.retry_at)]
    return [action]


def _tidy(observed: Observed, now: float) -> list[Action]:
    """Removes the dead beyond those that are kept, and what was created but never started."""
    actions: list[Action] = []
    seen: dict[str, int] = {}
    for one in observed.containers:
        if one.is_lost or one.name in observed.busy:
            continue
        rank = seen[one.name] = seen.get(one.name, 0) + 1
        is_surplus = rank > observed.dead_kept + 1 and one.state is ContainerState.EXITED
        if is_surplus and now < one.finished_at + observed.dead_age_seconds:
            actions.append(Wait(one.finished_at + observed.dead_age_seconds))
        elif one.state is ContainerState.CREATED or is_surplus:
            actions += _unless_waiting(one.id, RemoveContainer(one.id, one.name), observed, now)
    return actions


def _look_in(pod: Pod, sandbox: Sandbox, observed: Observed, now: float) -> list[Action]:
    """Starts ephemeral containers, also while the pod initializes; each of them only once."""
    actions: list[Action] = []
    for container in lifecycle.ephemeral_containers(pod):
        name = container["name"]
        if name not in observed.busy and observed.latest(name) is None:
            actions += _start(name, 0, sandbox, None, observed, now)
    return actions


def _initialize(pod: Pod, sandbox: Sandbox, observed: Observed, now: float) -> list[Action]:
    """Runs initial containers in order; a running sidecar lets the next one start."""
    actions: list[Action] = []
    for container in lifecycle.init_containers(pod):
        latest = observed.latest(container["name"])
        here = latest if latest is not None and latest.sandbox_id == sandbox.id else None
        if not lifecycle.is_sidecar(container) and here is not None and _has_succeeded(here):
            continue
        actions += _advance(pod, container, sandbox, observed, now)
        if not (
            lifecycle.is_sidecar(container) and here is not None and _has_started(here, observed)
        ):
            break
    return actions


def _has_succeeded(one: Container) -> bool:
    return one.state is ContainerState.EXITED and one.exit_code == 0


def _has_started(one: Container, observed: Observed) -> bool:
    health = observed.health.get(one.id)
    return one.state is ContainerState.RUNNING and (health is None or health.started)


def _advance(  # noqa: PLR0911 - a return per state of the container
    pod: Pod, container: dict[str, Any], sandbox: Sandbox, observed: Observed, now: float
) -> list[Action]:
    """What one container needs: nothing, a start, a stop, or time."""
    name = container["name"]
    if name in observed.busy:
        return []
    latest = observed.latest(name)
    if latest is None:
        return _start(name, 0, sandbox, None, observed, now)
    match latest.state:
        case ContainerState.RUNNING:
            return _check(pod, container, latest, observed, now)
        case ContainerState.CREATED:
            return []
        case ContainerState.UNKNOWN:
            return _kills(
                [latest],
                observed,
                0,
                now,
                "Container {name} is in an unknown state, will be restarted",
            )
        case ContainerState.EXITED:
            is_new_round = latest.sandbox_id != sandbox.id and lifecycle.is_initial(pod, container)
            must = is_new_round or latest.id in observed.replaced
            if not must and not lifecycle.should_run(pod, container, latest):
                return []
            return _restart(container, latest, sandbox, observed, now)


def _check(
    pod: Pod, container: dict[str, Any], latest: Container, observed: Observed, now: float
) -> list[Action]:
    grace = lifecycle.grace_seconds(pod)
    if latest.definition and latest.definition != lifecycle.definition(container):
        if latest.id in observed.kills:
            return []
        text = f"Container {latest.name} definition changed, will be restarted"
        kill = KillContainer(latest.id, latest.name, grace, text, is_replaced=True)
        return _unless_waiting(latest.id, kill, observed, now)
    health = observed.health.get(latest.id)
    if health is not None and not health.alive:
        probe = container.get(f"{health.probe or 'liveness'}Probe") or {}
        grace = int(probe.get("terminationGracePeriodSeconds", grace))
        return _kills(
            [latest],
            observed,
            grace,
            now,
            f"Container {{name}} {health.message}, will be restarted",
        )
    return []


def _restart(
    container: dict[str, Any], latest: Container, sandbox: Sandbox, observed: Observed, now: float
) -> list[Action]:
    """Another start: at once the first time, then after a back-off that doubles."""
    name, attempt = latest.name, latest.attempt + 1
    entry = observed.back_offs.get(name)
    is_other = bool(latest.definition) and latest.definition != lifecycle.definition(container)
    is_quiet = (
        entry is None or latest.finished_at - entry.updated_at > lifecycle.BACK_OFF_RESET_SECONDS
    )
    if entry is None or is_other or is_quiet or latest.id in observed.replaced:
        first = BackOff(lifecycle.BACK_OFF_FIRST_SECONDS, now)
        return _start(name, attempt, sandbox, first, observed, now)
    due = latest.finished_at + entry.delay_seconds
    if now < due:
        return [Wait(due)]
    longer = min(2 * entry.delay_seconds, lifecycle.BACK_OFF_MAX_SECONDS)
    return _start(name, attempt, sandbox, BackOff(longer, now), observed, now)


def _start(  # noqa: PLR0917 - all of it decides
    name: str,
    attempt: int,
    sandbox: Sandbox,
    back_off: BackOff | None,
    observed: Observed,
    now: float,
) -> list[Action]:
    failure = observed.failures.get(name)
    if failure is not None and now < failure.retry_at:
        return [Wait(failure.retry_at)]
    return [StartContainer(name, attempt, sandbox.id, back_off)]
