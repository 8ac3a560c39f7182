# SPDX-License-Identifier: Apache-2.0
"""Short ways to say what a test's pod wants and what is observed of it."""

from __future__ import annotations

from typing import Any

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.state import Container, ContainerState, Observed, Sandbox

NOW = 1_800_000_000.0
CREATED, RUNNING, EXITED = ContainerState.CREATED, ContainerState.RUNNING, ContainerState.EXITED
UNKNOWN = ContainerState.UNKNOWN


def spec(name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox:1", **more}


def pod(
    *containers: dict[str, Any],
    uid: str = "u1",
    name: str = "web",
    metadata: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid, **(metadata or {})},
        "spec": {"containers": list(containers) or [spec()], "nodeName": "edge-1", **more},
    }


def dying(*containers: dict[str, Any], grace: int = 30, **more: Any) -> dict[str, Any]:
    metadata = {"deletionTimestamp": "2027-01-15T08:00:30Z", "deletionGracePeriodSeconds": grace}
    return pod(*containers, metadata=metadata, **more)


def sandbox(attempt: int = 0, *, ready: bool = True) -> Sandbox:
    return Sandbox(f"s{attempt}", attempt, ready, NOW - 100 + attempt, ("10.1.0.7",))


def container(
    name: str = "main",
    state: ContainerState = RUNNING,
    attempt: int = 0,
    *,
    code: int = 0,
    ended: float = NOW,
    sandbox_id: str = "s0",
    image: str = "busybox:1",
) -> Container:
    return Container(
        id=f"{name}-{attempt}",
        name=name,
        attempt=attempt,
        state=state,
        sandbox_id=sandbox_id,
        definition=lifecycle.definition({"name": name, "image": image}),
        image=image,
        image_id="sha256:1",
        created_at=NOW - 60 + attempt,
        started_at=NOW - 50,
        finished_at=ended if state is EXITED else 0.0,
        exit_code=code,
    )


def observed(
    *containers: Container, sandboxes: tuple[Sandbox, ...] = (sandbox(),), **more: Any
) -> Observed:
    ordered = tuple(sorted(containers, key=lambda one: one.attempt, reverse=True))
    values = {"volumes_ready": True, "started_at": NOW - 100} | more
    return Observed(sandboxes=sandboxes, containers=ordered, **values)
