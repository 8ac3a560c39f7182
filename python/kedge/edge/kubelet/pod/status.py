# SPDX-License-Identifier: Apache-2.0
"""A pod's status as Kubernetes words it, from what is observed; pure.

Same phase rules, condition types and reasons as the kubelet's. What the kubelet does not own
(conditions of others, the QoS class, nominations) is carried over from the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.conditions import OWN, conditions
from kedge.edge.kubelet.pod.lifecycle import format_time
from kedge.edge.kubelet.pod.state import Container, ContainerState, Ended, Observed, Pod

Status = dict[str, Any]
FINAL = ("Succeeded", "Failed")

MAX_MESSAGES_BYTES = 12 * 1024
"""Of all termination messages of a pod; each container has its share."""
DEADLINE_REASON = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True)
class Host:
    """What a pod's status says of its node."""

    addresses: tuple[str, ...]
    runtime_name: str = "containerd"


def pod_status(pod: Pod, observed: Observed, previous: Status, host: Host, now: float) -> Status:
    """The whole status to report.

    Args:
        pod: the desired object; its own status gives what others own.
        observed: everything known of it on this node.
        previous: the status reported last; the API's when this node has reported none.
        host: the node's addresses and the runtime's name.
        now: seconds since the epoch.
    """
    ended = observed.ended
    if ended is not None and ended.is_final and not observed.containers:
        return _never_taken(pod, observed, ended, now)
    initial = [
        _container_status(pod, one, observed, previous, host, now)
        for one in lifecycle.init_containers(pod)
    ]
    regular = [
        _container_status(pod, one, observed, previous, host, now)
        for one in lifecycle.containers(pod)
    ]
    ephemeral = [
        _ephemeral(_container_status(pod, one, observed, previous, host, now))
        for one in lifecycle.ephemeral_containers(pod)
    ]
    phase, is_late = _phase_now(pod, observed, regular, previous, now)
    if ended is not None and ended.is_final and not _runs(observed):
        phase = "Failed"
    status: Status = {"phase": phase, "startTime": format_time(observed.started_at or now)}
    if is_late:
        status |= {"reason": DEADLINE_REASON, "message": DEADLINE_MESSAGE}
    elif ended is not None and not _runs(observed):
        status |= {"reason": ended.reason, "message": ended.message}
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    status["conditions"] = conditions(pod, observed, phase, initial, regular, previous, now)
    status |= _addresses(pod, observed, previous, host)
    status["qosClass"] = (pod.get("status") or {}).get("qosClass") or qos_class(pod)
    if initial:
        status["initContainerStatuses"] = initial
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    status["containerStatuses"] = regular
    if pod["spec"].get("resources") and observed.containers:
        status |= _resources(pod["spec"])
    _bound_messages([*initial, *regular, *ephemeral])
    return status


def _runs(observed: Observed) -> bool:
    return any(one.state is not ContainerState.EXITED for one in observed.containers)


def _never_taken(pod: Pod, observed: Observed, ended: Ended, now: float) -> Status:
    """As the kubelet's: no container is spoken of, so that the reason is what people see."""
    foreign = (pod.get("status") or {}).get("conditions") or []
    return {
        "phase": "Failed",
        "reason": ended.reason,
        "message": ended.message,
        "startTime": format_time(observed.started_at or now),
        "qosClass": (pod.get("status") or {}).get("qosClass") or qos_class(pod),
        "conditions": [one for one in foreign if one["type"] not in OWN],
    }


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, from the pod's own resources, else its containers'."""
    has_any, is_guaranteed = False, True
    own = pod["spec"].get("resources")
    for container in [{"resources": own}] if own else lifecycle.lasting_containers(pod):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = limits.get(name), requests.get(name, limits.get(name))
            has_any = has_any or limit is not None or request is not None
            is_guaranteed = is_guaranteed and limit is not None and limit == request
    if not has_any:
        return "BestEffort"
    return "Guaranteed" if is_guaranteed else "Burstable"


def _container_status(  # noqa: PLR0917 - all of it decides
    pod: Pod,
    container: dict[str, Any],
    observed: Observed,
    previous: Status,
    host: Host,
    now: float,
) -> Status:
    name = container["name"]
    latest, before = observed.latest(name), observed.previous(name)
    state, last = _state(pod, container, latest, before, observed, host, now)
    is_running = "running" in state
    health = observed.health.get(latest.id) if latest else None
    is_initial = lifecycle.is_initial(pod, container)
    started = is_running and (health.started if health else "startupProbe" not in container)
    if is_initial and not lifecycle.is_sidecar(container):
        ready = state.get("terminated", {}).get("exitCode") == 0
    else:
        ready = started and (health.ready if health else "readinessProbe" not in container)
    return (
        {
            "name": name,
            "state": state,
            "lastState": last,
            "ready": ready,
            "started": started,
            "restartCount": latest.attempt if latest else _restart_count(previous, name),
            "image": (latest.image if latest else "") or container.get("image", ""),
            "imageID": latest.image_id if latest else "",
        }
        | (_resources(container) if latest else {})
        | (
            {"containerID": f"{host.runtime_name}://{latest.id}"}
            if latest and "waiting" not in state
            else {}
        )
    )


def _ephemeral(status: Status) -> Status:
    """An ephemeral container is never ready, and nobody waits for its start."""
    del status["started"]
    return status | {"ready": False}


def _restart_count(previous: Status, name: str) -> int:
    for one in lifecycle.container_statuses(previous):
        if one.get("name") == name:
            return int(one.get("restartCount", 0))
    return 0


def _state(  # noqa: PLR0911, PLR0917 - a return per state
    pod: Pod,
    container: dict[str, Any],
    latest: Container | None,
    before: Container | None,
    observed: Observed,
    host: Host,
    now: float,
) -> tuple[Status, Status]:
    """The container's ``state`` and ``lastState``."""
    failure = observed.failures.get(container["name"])
    last = _terminated(before, host) if before else {}
    if latest is None or latest.state is ContainerState.CREATED:
        if failure is not None:
            return _waiting(failure.reason, failure.message), last
        if not lifecycle.is_initial(pod, container) and not lifecycle.is_initialized(pod, observed):
            return _waiting("PodInitializing"), last
        held_up = observed.failures.get("sandbox") or observed.failures.get("volumes")
        return _waiting(
            "ContainerCreating" if not lifecycle.init_containers(pod) else "PodInitializing",
            held_up.message if held_up and observed.sandbox() is None else "",
        ), last
    if latest.state is ContainerState.RUNNING:
        return {"running": {"startedAt": format_time(latest.started_at)}}, last
    ended = _terminated(latest, host)
    if (
        lifecycle.is_terminating(pod)
        or observed.is_gone
        or not lifecycle.should_run(pod, container, latest)
    ):
        return ended, last
    if failure is not None:
        return _waiting(failure.reason, failure.message), ended
    back_off = observed.back_offs.get(latest.name)
    if (
        back_off is not None
        and back_off.updated_at <= latest.finished_at
        and now < latest.finished_at + back_off.delay_seconds
    ):
        metadata = pod["metadata"]
        text = (
            f"back-off {_duration(back_off.delay_seconds)} restarting failed container={latest.name} "
            f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        )
        return _waiting("CrashLoopBackOff", text), ended
    return ended, last


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _waiting(reason: str, message: str = "") -> Status:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def _terminated(one: Container, host: Host) -> Status:
    if one.state is not ContainerState.EXITED:
        return {}
    default = "Completed" if one.exit_code == 0 else "Error"
    details: Status = {
        "exitCode": one.exit_code,
        "reason": one.reason or default,
        "startedAt": format_time(one.started_at) if one.started_at else None,
        "finishedAt": format_time(one.finished_at) if one.finished_at else None,
        "containerID": f"{host.runtime_name}://{one.id}",
    }
    if one.message:
        details["message"] = one.message
    return {"terminated": details}


def _bound_messages(statuses: list[Status]) -> None:
    """Cuts termination messages to their container's share of what a pod may say."""
    share = MAX_MESSAGES_BYTES // max(1, len(statuses))
    for one in statuses:
        for state in (one["state"], one["lastState"]):
            message = (state.get("terminated") or {}).get("message", "")
            if len(message.encode()) > share:
                cut = message.encode()[:share].decode("utf-8", "ignore")
                state["terminated"]["message"] = cut


def _phase_now(
    pod: Pod, observed: Observed, regular: list[Status], previous: Status, now: float
) -> tuple[str, bool]:
    """The phase to report, and whether the pod ran over its deadline.

    A phase that is final stays. It is said only when nothing of the pod runs any more: who waits
    for the end may take its place and its resources.
    """
    before = previous.get("phase")
    has_ended = before in FINAL
    is_late = observed.ended is None and lifecycle.has_exceeded_deadline(
        pod, observed.started_at, now
    )
    if has_ended and lifecycle.is_finished(pod, observed):
        return str(before), previous.get("reason") == DEADLINE_REASON
    phase = "Failed" if is_late else _phase(pod, observed, regular)
    runs = (ContainerState.RUNNING, ContainerState.UNKNOWN)
    if phase in FINAL and not has_ended and any(one.state in runs for one in observed.containers):
        return str(before or "Running"), False
    return phase, is_late


def _phase(pod: Pod, observed: Observed, regular: list[Status]) -> str:
    if lifecycle.has_failed_to_initialize(pod, observed):
        return "Failed"
    if not lifecycle.is_initialized(pod, observed):
        return "Pending"
    waiting = sum("waiting" in one["state"] and not one["lastState"] for one in regular)
    running = sum("running" in one["state"] for one in regular)
    ended = [
        (one["state"].get("terminated") or one["lastState"].get("terminated"))
        for one in regular
        if "terminated" in one["state"] or ("waiting" in one["state"] and one["lastState"])
    ]
    if waiting:
        return "Pending"
    if running:
        return "Running"
    succeeded = all(one["exitCode"] == 0 for one in ended)
    is_over = lifecycle.is_finished(pod, observed) or lifecycle.is_terminating(pod)
    if is_over and ended:
        return "Succeeded" if succeeded else "Failed"
    return "Running" if ended else "Pending"


def _resources(container: dict[str, Any]) -> Status:
    """What a container has been given."""
    found = container.get("resources") or {}
    if not found.get("requests") and not found.get("limits"):
        return {}
    return {"resources": found} | (
        {"allocatedResources": found["requests"]} if found.get("requests") else {}
    )


def _addresses(pod: Pod, observed: Observed, previous: Status, host: Host) -> Status:
    found: Status = {}
    if host.addresses:
        found = {"hostIP": host.addresses[0], "hostIPs": [{"ip": ip} for ip in host.addresses]}
    sandbox = observed.sandbox()
    if pod["spec"].get("hostNetwork"):
        addresses = host.addresses if sandbox else ()
    elif sandbox is not None:
        addresses = sandbox.ips
    else:
        addresses = (
            tuple(one["ip"] for one in previous.get("podIPs") or []) if observed.busy else ()
        )
    if addresses:
        found |= {"podIP": addresses[0], "podIPs": [{"ip": ip} for ip in addresses]}
    return found
