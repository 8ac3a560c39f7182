# SPDX-License-Identifier: Apache-2.0
"""What monitoring asks of a kubelet: ``/stats``, ``/metrics``, ``/runningpods``, ``/configz``.

Loaded with the first such question.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod.state import ContainerState
from kedge.edge.kubelet.serving import exposition, usage
from kedge.edge.kubelet.serving.face import Answer, Request, RequestError
from kedge.runtime import VERSION

if TYPE_CHECKING:
    from kedge.edge.config import EdgeConfig
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Source:
    """Where answers come from.

    Attributes:
        workers: of the node's pods.
        tools: the kubelet's shared parts.
        problem: why the node is not healthy; empty when it is.
        config: the agent's settings.
    """

    workers: list[PodWorker]
    tools: Tools
    problem: str
    config: EdgeConfig | None


async def answer(  # noqa: PLR0911 - a return for each path
    request: Request, source: Source
) -> Answer | dict[str, Any]:
    """The answer, or what Rust is to read for it.

    Raises:
        RequestError: it cannot be answered.
    """
    if request.method not in ("GET", "HEAD"):
        if request.parts[0] == "checkpoint":
            raise RequestError(501, "checkpoints are not supported by this node")
        raise RequestError(405, f"wanted GET, got: {request.method}")
    match request.parts:
        case ("stats", "summary"):
            is_short = request.flag("only_cpu_and_memory")
            return await _read(usage.SHORT_SUMMARY if is_short else usage.SUMMARY, source)
        case ("metrics", "resource"):
            return await _read(usage.RESOURCE, source)
        case ("metrics", "cadvisor"):
            before = f'# TYPE cadvisor_version_info gauge\ncadvisor_version_info{{cadvisorVersion="kedge-{VERSION}"}} 1\n'
            return await _read(usage.CADVISOR, source, before)
        case ("metrics", "probes"):
            return _text(exposition.probes(source.workers))
        case ("metrics", "slis"):
            return _text(exposition.health(source.problem))
        case ("metrics",):
            before = exposition.kubelet(source.workers, source.tools, VERSION)
            return await _read(usage.VOLUMES, source, before)
        case ("runningpods",):
            return Answer(json.dumps(running(source.workers)).encode(), JSON)
        case ("configz",):
            return Answer(json.dumps({"kubeletconfig": settings(source.config)}).encode(), JSON)
        case ("logs", *_):
            raise RequestError(403, "the machine's own log files are not served")
    raise RequestError(404, f"no such path on this node: /{'/'.join(request.parts)}")


async def _read(what: str, source: Source, before: str = "") -> dict[str, Any]:
    return await usage.world(what, source.workers, source.tools, before=before)


def _text(text: str) -> Answer:
    return Answer(text.encode(), exposition.TYPE)


def running(workers: list[PodWorker]) -> dict[str, Any]:
    """``/runningpods``: what the runtime runs, in few words."""
    items = []
    for worker in workers:
        found = [
            {"name": one.name, "image": one.image, "resources": {}}
            for one in worker.observed().containers
            if one.state is ContainerState.RUNNING
        ]
        if found:
            metadata = worker.pod["metadata"]
            kept = {name: metadata[name] for name in ("name", "namespace", "uid")}
            items.append({"metadata": kept, "spec": {"containers": found}, "status": {}})
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def settings(config: EdgeConfig | None) -> dict[str, Any]:
    """The settings under the names that they have in a file."""
    found = {}
    for field in fields(config) if config is not None else ():
        head, *rest = field.name.split("_")
        value = getattr(config, field.name)
        plain = isinstance(value, (str, int, float, dict, list, tuple, type(None)))
        found[head + "".join(one.capitalize() for one in rest)] = value if plain else str(value)
    return found
