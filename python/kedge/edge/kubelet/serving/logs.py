# SPDX-License-Identifier: Apache-2.0
"""``/containerLogs``: from query parameters and a pod's containers to what Rust is to read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod.state import ContainerState
from kedge.edge.kubelet.serving.face import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.edge.kubelet.pod.state import Container, Observed
    from kedge.edge.kubelet.serving.face import Request

STREAMS = {"": "", "all": "", "stdout": "stdout", "stderr": "stderr"}


def log_request(
    request: Request, container: Container, directory: Path, now: float
) -> dict[str, Any]:
    """What to read.

    Args:
        request: with the parameters of the API's ``PodLogOptions``.
        container: whose log.
        directory: where the pod's logs are.
        now: seconds since 1970.

    Raises:
        RequestError: a parameter is not what it should be.
    """
    stream = request.text("stream").lower()
    if stream not in STREAMS:
        raise RequestError(
            400, f"stream: wanted All, Stdout or Stderr, got: {request.text('stream')!r}"
        )
    path = container.log_path or str(directory / container.name / f"{container.attempt}.log")
    return {
        "path": path,
        "container": container.id,
        # one that is created may run already, with its start hook
        "is_running": container.state in (ContainerState.CREATED, ContainerState.RUNNING),
        "follow": request.flag("follow"),
        "tail": _count(request, "tailLines"),
        "limit_bytes": _count(request, "limitBytes"),
        "selection": {
            "since_ns": _since(request, now),
            "timestamps": request.flag("timestamps"),
            "stream": STREAMS[stream],
        },
    }


def choose(request: Request, observed: Observed, name: str, pod: str) -> Container:
    """The container that a request is about: the newest of its name, or the one before it.

    Raises:
        RequestError: there is none.
    """
    if request.flag("previous"):
        found = observed.previous(name)
        if found is None or found.is_lost:
            text = f"previous terminated container {name!r} in pod {pod!r} not found"
            raise RequestError(400, text)
        return found
    found = observed.latest(name)
    if found is None:
        raise RequestError(400, f"container {name!r} in pod {pod!r} is waiting to start")
    if found.is_lost:
        text = f"the log of container {name!r} in pod {pod!r} was lost with its runtime"
        raise RequestError(400, text)
    return found


def _count(request: Request, name: str) -> int | None:
    text = request.text(name)
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise RequestError(400, f"{name}: wanted a number of 0 or more, got: {text[:40]!r}")
    return int(text)


def _since(request: Request, now: float) -> int | None:
    seconds = _count(request, "sinceSeconds")
    if seconds is not None:
        return int((now - seconds) * 1e9)
    text = request.text("sinceTime")
    if not text:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise RequestError(400, f"sinceTime: wanted RFC 3339, got: {text[:40]!r}") from None
