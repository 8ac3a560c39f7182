# SPDX-License-Identifier: Apache-2.0
"""Facts about one pod, gathered from the runtime and from the last report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet import labels
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.lifecycle import parse_time
from kedge.edge.kubelet.pod.state import Container, ContainerState, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.runtime import ContainerInfo, ContainerStatus, SandboxInfo

LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The container could not be located when the node came back. It used to be Running"


def sandbox(info: SandboxInfo, ips: tuple[str, ...]) -> Sandbox:
    """A sandbox of the runtime's list."""
    name, namespace = (
        info.labels.get(labels.POD_NAME, ""),
        info.labels.get(labels.POD_NAMESPACE, ""),
    )
    grace = info.annotations.get(labels.GRACE_SECONDS, "")
    return Sandbox(
        info.id,
        info.attempt,
        info.ready,
        info.created_at,
        ips,
        name,
        namespace,
        int(grace) if grace.isdecimal() else None,
    )


def container(info: ContainerInfo, status: ContainerStatus | None = None) -> Container:
    """A container of the runtime's list, with its times and exit code if its status was asked."""
    found = Container(
        id=info.id,
        name=info.labels.get(labels.CONTAINER_NAME, info.name),
        attempt=info.attempt,
        state=ContainerState(info.state),
        sandbox_id=info.sandbox_id,
        definition=info.annotations.get(labels.DEFINITION, ""),
        image=info.annotations.get(labels.IMAGE) or info.image,
        image_id=info.image_ref,
        created_at=info.created_at,
    )
    return with_status(found, status) if status is not None else found


def with_status(one: Container, status: ContainerStatus, message: str = "") -> Container:
    """The same container as its status has it now."""
    return replace(
        one,
        state=ContainerState(status.state),
        image_id=status.image_ref or one.image_id,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        reason=status.reason,
        message=message or status.message,
        log_path=status.log_path,
    )


def lost(status: dict[str, Any], known_ids: Iterable[str]) -> list[Container]:
    """Containers that the last report knows and the runtime does not, as ended.

    One that was running counts as killed. They keep restart counts, exit codes and ``lastState``
    through a reboot that empties the runtime, and stop a pod that never restarts from running twice.
    """
    known = set(known_ids)
    found = []
    for one in lifecycle.container_statuses(status):
        count = int(one.get("restartCount", 0))
        state, last = one.get("state") or {}, one.get("lastState") or {}
        newest = _ended(one, state, count, one.get("containerID", ""))
        attempt = count - 1 if newest or _bare(one.get("containerID", "")) in known else count
        before = _ended(one, last, max(attempt, 0), "")
        found += [item for item in (newest, before) if item is not None and item.id not in known]
    return found


def _ended(
    one: dict[str, Any], state: dict[str, Any], attempt: int, container_id: str
) -> Container | None:
    ended = state.get("terminated")
    if ended is None and "running" not in state:
        return None
    common = {
        "name": one["name"],
        "attempt": attempt,
        "state": ContainerState.EXITED,
        "image": one.get("image", ""),
        "image_id": one.get("imageID", ""),
    }
    if ended is None:
        started = parse_time(state["running"].get("startedAt"))
        return Container(
            id=_bare(container_id),
            started_at=started,
            exit_code=LOST_EXIT_CODE,
            reason=LOST_REASON,
            message=LOST_MESSAGE,
            **common,
        )
    return Container(
        id=_bare(ended.get("containerID") or container_id),
        started_at=parse_time(ended.get("startedAt")),
        finished_at=parse_time(ended.get("finishedAt")),
        exit_code=int(ended.get("exitCode", 0)),
        reason=ended.get("reason", ""),
        message=ended.get("message", ""),
        **common,
    )


def _bare(container_id: str) -> str:
    return container_id.rpartition("//")[2]


def newest_first(containers: Iterable[Container]) -> tuple[Container, ...]:
    """Ordered as ``Observed`` wants them."""
    return tuple(sorted(containers, key=lambda one: (one.attempt, one.created_at), reverse=True))
