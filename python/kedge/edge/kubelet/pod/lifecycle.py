# SPDX-License-Identifier: Apache-2.0
"""Questions about a pod and its containers that planning and reporting must answer alike; pure."""

from __future__ import annotations

import json
from binascii import crc32
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod.state import Container, ContainerState, Observed, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_GRACE_SECONDS = 30
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
BACK_OFF_FIRST_SECONDS = 10.0
BACK_OFF_MAX_SECONDS = 300.0
BACK_OFF_RESET_SECONDS = 2 * BACK_OFF_MAX_SECONDS


def init_containers(pod: Pod) -> list[dict[str, Any]]:
    """The containers that run before the others, in order."""
    return pod["spec"].get("initContainers") or []


def containers(pod: Pod) -> list[dict[str, Any]]:
    """The regular containers."""
    return pod["spec"].get("containers") or []


def ephemeral_containers(pod: Pod) -> list[dict[str, Any]]:
    """The containers that were added to the running pod, to look into it."""
    return pod["spec"].get("ephemeralContainers") or []


def lasting_containers(pod: Pod) -> Iterator[dict[str, Any]]:
    """Those that the pod was created with: initial ones in order, then the regular ones."""
    yield from init_containers(pod)
    yield from containers(pod)


def every_container(pod: Pod) -> Iterator[dict[str, Any]]:
    """Initial ones in order, the regular ones, the ephemeral ones."""
    yield from lasting_containers(pod)
    yield from ephemeral_containers(pod)


def field(pod: Pod, name: str) -> str:
    """The list of the pod's spec that a container is in."""
    for one in ("initContainers", "ephemeralContainers"):
        if any(found["name"] == name for found in pod["spec"].get(one) or []):
            return one
    return "containers"


def find_container(pod: Pod, name: str) -> dict[str, Any] | None:
    """The container of that name, of whatever kind."""
    return next((one for one in every_container(pod) if one["name"] == name), None)


def is_initial(pod: Pod, container: dict[str, Any]) -> bool:
    """Whether this is one of the pod's initial containers, by identity."""
    return any(one is container for one in init_containers(pod))


def is_ephemeral(pod: Pod, container: dict[str, Any]) -> bool:
    """Whether this is one of the pod's ephemeral containers, by identity."""
    return any(one is container for one in ephemeral_containers(pod))


def is_sidecar(container: dict[str, Any]) -> bool:
    """Whether an initial container keeps running beside the regular ones."""
    return bool(container.get("restartPolicy") == "Always")


def sidecars(pod: Pod) -> list[dict[str, Any]]:
    """The initial containers that run as long as the regular ones, in order of their start."""
    return [one for one in init_containers(pod) if is_sidecar(one)]


def restart_policy(pod: Pod, container: dict[str, Any]) -> str:
    """What decides over another start of this container, when none of its rules does."""
    if is_ephemeral(pod, container):
        return "Never"
    policy: str = container.get("restartPolicy") or ""
    if policy:
        return policy
    policy = pod["spec"].get("restartPolicy") or "Always"
    if policy == "Always" and is_initial(pod, container):
        return "OnFailure"
    return policy


def is_terminating(pod: Pod) -> bool:
    """Whether the API asked for this pod's end."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_terminal(pod: Pod) -> bool:
    """Whether the API has the pod as ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_critical(pod: Pod) -> bool:
    """Whether the node must not end the pod to save itself: a static one, or of a system priority."""
    source = (pod["metadata"].get("annotations") or {}).get("kubernetes.io/config.source", "api")
    return source != "api" or int(pod["spec"].get("priority") or 0) >= SYSTEM_CRITICAL_PRIORITY


def is_node_critical(pod: Pod) -> bool:
    """Whether the node does not work without the pod."""
    return bool(pod["spec"].get("priorityClassName") == "system-node-critical")


def grace_seconds(pod: Pod) -> int:
    """How long containers have between TERM and KILL."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_SECONDS if asked is None else max(0, int(asked))


def definition(container: dict[str, Any]) -> str:
    """A short word that differs when the container must be replaced.

    Only the mutable fields count, so that an API server that fills in more defaults after an
    upgrade restarts nothing.
    """
    mutable = json.dumps([container["name"], container.get("image", "")], separators=(",", ":"))
    return f"{crc32(mutable.encode()):08x}"


def should_run(pod: Pod, container: dict[str, Any], latest: Container | None) -> bool:
    """Whether the container is to run, now or after its back-off."""
    if latest is None or latest.state is not ContainerState.EXITED:
        return True
    if any(_matches(rule, latest.exit_code) for rule in container.get("restartPolicyRules") or []):
        return True
    match restart_policy(pod, container):
        case "Never":
            return False
        case "OnFailure":
            return latest.exit_code != 0
        case _:
            return True


def _matches(rule: dict[str, Any], exit_code: int) -> bool:
    """Whether a rule of ``restartPolicyRules`` asks for another start; ``Restart`` is all it can."""
    codes = rule.get("exitCodes") or {}
    is_listed = exit_code in (codes.get("values") or [])
    match codes.get("operator"):
        case "In":
            return is_listed
        case "NotIn":
            return not is_listed
        case _:
            return False


def has_failed_to_initialize(pod: Pod, observed: Observed) -> bool:
    """Whether an initial container ended badly and may not be tried again."""
    for container in init_containers(pod):
        latest = observed.latest(container["name"])
        if latest is None or latest.state is not ContainerState.EXITED:
            continue
        if latest.exit_code != 0 and not should_run(pod, container, latest):
            return True
    return False


def has_exceeded_deadline(pod: Pod, started_at: float, now: float) -> bool:
    """Whether ``activeDeadlineSeconds`` is over."""
    limit = pod["spec"].get("activeDeadlineSeconds")
    return limit is not None and started_at > 0 and now >= started_at + limit


def is_finished(pod: Pod, observed: Observed) -> bool:
    """Whether nothing runs any more and nothing will."""
    regular = [(one, observed.latest(one["name"])) for one in containers(pod)]
    if any(latest and latest.state is not ContainerState.EXITED for _, latest in regular):
        return False
    if is_terminal(pod) or has_failed_to_initialize(pod, observed):
        return True
    if any(latest and latest.id in observed.replaced for _, latest in regular):
        return False
    return all(latest is not None and not should_run(pod, one, latest) for one, latest in regular)


def is_ending(pod: Pod, observed: Observed, now: float) -> bool:
    """Whether all of the pod's containers are to end."""
    return (
        observed.is_gone
        or observed.ended is not None
        or is_terminating(pod)
        or has_exceeded_deadline(pod, observed.started_at, now)
        or is_finished(pod, observed)
    )


def is_initialized(pod: Pod, observed: Observed) -> bool:
    """Whether the regular containers may start, or have, in the present sandbox.

    Without a ready sandbox the newest containers decide, wherever they ran.
    """
    sandbox = observed.sandbox()
    for container in containers(pod):
        latest = observed.latest(container["name"])
        if latest is not None and (sandbox is None or latest.sandbox_id == sandbox.id):
            return True
    for container in init_containers(pod):
        latest = observed.latest(container["name"])
        if latest is None or (sandbox is not None and latest.sandbox_id != sandbox.id):
            return False
        if is_sidecar(container):
            health = observed.health.get(latest.id)
            if latest.state is not ContainerState.RUNNING or (health and not health.started):
                return False
        elif latest.state is not ContainerState.EXITED or latest.exit_code != 0:
            return False
    return True


def container_statuses(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The statuses of all containers, of every kind."""
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return [one for kind in kinds for one in status.get(kind) or []]


def parse_time(text: str | None) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 for none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def format_time(seconds: float) -> str:
    """The API's form of a time: UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
