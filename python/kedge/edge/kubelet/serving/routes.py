# SPDX-License-Identifier: Apache-2.0
"""Paths of the kubelet server, as the kubelet has them (``pkg/kubelet/server`` of Kubernetes)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kedge import metrics
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.state import Container, ContainerState
from kedge.edge.kubelet.serving import logs
from kedge.edge.kubelet.serving.face import Answer, Log, Reply, RequestError, Stats, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.config import EdgeConfig
    from kedge.edge.kubelet.pods import Pods
    from kedge.edge.kubelet.serving.face import KubeletServer, Request
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker

JSON = "application/json"
MAX_COMMAND_WORDS = 1000
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE"}
_LONG = {"exec", "attach", "portForward", "containerLogs"}
_COUNTED = _LONG | {
    "healthz", "pods", "runningpods", "stats", "configz", "logs", "checkpoint", "metrics",
    "metrics/cadvisor", "metrics/resource", "metrics/probes", "metrics/slis",
}  # fmt: skip
"""Paths that have a figure of their own: what clients ask for must not make more of them."""


class Routes:
    """Answers what is asked of this node.

    Args:
        server: where questions come from.
        pods: the kubelet's pods.
        tools: the kubelet's shared parts.
        problem: why the node is not healthy; empty when it is.
        config: what ``/configz`` tells.
    """

    def __init__(
        self,
        server: KubeletServer,
        pods: Pods,
        tools: Tools,
        problem: Callable[[], str],
        config: EdgeConfig | None = None,
    ) -> None:
        self._server = server
        self._pods = pods
        self._tools = tools
        self._problem = problem
        self._config = config

    async def run(self) -> None:
        """Answers until cancelled."""
        await self._server.run(self._counted)

    async def _counted(self, request: Request) -> Reply:
        metrics.count("kubelet_http_requests_total", 1.0, **labels_of(request))
        return await self.answer(request)

    async def answer(self, request: Request) -> Reply:  # noqa: PLR0911 - a return for each path
        """The answer to one request.

        Raises:
            RequestError: it cannot be answered.
        """
        match request.parts:
            case ("healthz",) | ("healthz", "ping" | "log" | "syncloop"):
                problem = self._problem()
                return Answer(problem.encode(), status=500) if problem else Answer(b"ok")
            case ("pods",):
                return Answer(json.dumps(self._list()).encode(), JSON)
            case ("containerLogs", namespace, pod, container):
                return self._log(request, self._find(namespace, pod), container)
            case ("exec", namespace, pod, *rest, container) if len(rest) <= 1:
                worker = self._find(namespace, pod, *rest)
                return await self._exec(request, self._running(worker, container))
            case ("attach", namespace, pod, *rest, container) if len(rest) <= 1:
                worker = self._find(namespace, pod, *rest)
                return await self._attach(request, worker, self._running(worker, container))
            case ("portForward", namespace, pod, *rest) if len(rest) <= 1:
                return await self._port_forward(request, self._find(namespace, pod, *rest))
            case ("stats" | "metrics" | "runningpods" | "configz" | "logs" | "checkpoint", *_):
                return await self._tell(request)
        raise RequestError(404, f"no such path on this node: /{'/'.join(request.parts)}")

    async def _tell(self, request: Request) -> Reply:
        """What monitoring asks."""
        # Loaded with the first such question: an agent that nobody asks does without.
        from kedge.edge.kubelet.serving import told  # noqa: PLC0415

        source = told.Source(self._pods.workers(), self._tools, self._problem(), self._config)
        found = await told.answer(request, source)
        if isinstance(found, dict):
            return Stats(found)
        return found

    def _list(self) -> dict[str, Any]:
        items = [worker.pod | {"status": worker.status} for worker in self._pods.workers()]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}

    def _find(self, namespace: str, name: str, uid: str = "") -> PodWorker:
        worker = self._pods.find(namespace, name)
        if worker is None or (uid and uid != worker.uid):
            raise RequestError(404, f"pod {name!r} in namespace {namespace!r} is not on this node")
        return worker

    def _log(self, request: Request, worker: PodWorker, name: str) -> Reply:
        self._check_name(worker, name)
        pod = worker.pod["metadata"]["name"]
        container = logs.choose(request, worker.observed(), name, pod)
        directory = self._tools.paths.log_directory(worker.pod)
        return Log(logs.log_request(request, container, directory, self._tools.clock()))

    def _running(self, worker: PodWorker, name: str) -> Container:
        self._check_name(worker, name)
        found = worker.observed().latest(name)
        # One that is created may run already, with its start hook; if not, the runtime says so.
        if found is None or found.state not in (ContainerState.CREATED, ContainerState.RUNNING):
            pod = worker.pod["metadata"]["name"]
            raise RequestError(400, f"container {name!r} in pod {pod!r} is not running")
        return found

    def _check_name(self, worker: PodWorker, name: str) -> None:
        if lifecycle.find_container(worker.pod, name) is None:
            pod = worker.pod["metadata"]["name"]
            raise RequestError(404, f"container {name!r} is not in pod {pod!r}")

    async def _exec(self, request: Request, container: Container) -> Reply:
        command = request.query.get("command") or []
        if not command or len(command) > MAX_COMMAND_WORDS:
            text = f"command: wanted 1 to {MAX_COMMAND_WORDS} words, got: {len(command)}"
            raise RequestError(400, text)
        options = _options(request)
        return Stream(await self._tools.runtime.exec(container.id, command, **options))

    async def _attach(self, request: Request, worker: PodWorker, container: Container) -> Reply:
        spec = lifecycle.find_container(worker.pod, container.name) or {}
        # What the container has, not what the client wishes, says whether it is a terminal.
        options = _options(request) | {"tty": bool(spec.get("tty"))}
        if options["tty"]:
            options["stderr"] = False
        return Stream(await self._tools.runtime.attach(container.id, **options))

    async def _port_forward(self, request: Request, worker: PodWorker) -> Reply:
        sandbox = worker.observed().sandbox()
        if sandbox is None:
            raise RequestError(400, f"pod {worker.pod['metadata']['name']!r} is not running")
        ports = [_port(text) for text in request.query.get("port") or []]
        return Stream(await self._tools.runtime.port_forward(sandbox.id, ports))


def labels_of(request: Request) -> dict[str, str]:
    """What is told of a request in figures; few values, whatever clients send."""
    path = "/".join(request.parts[: 2 if request.parts[:1] == ("metrics",) else 1])
    return {
        "method": request.method if request.method in _METHODS else "other",
        "path": path if path in _COUNTED else "other",
        "server_type": "readwrite",
        "long_running": str(path in _LONG).lower(),
    }


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:6]) < 65536:
        raise RequestError(400, f"port: wanted 1 to 65535, got: {text[:20]!r}")
    return int(text)


def _options(request: Request) -> dict[str, bool]:
    """Which streams are wanted (kubelet: ``input``, ``output``, ``error``, ``tty``).

    Raises:
        RequestError: none, or no upgrade to carry them.
    """
    if not request.is_upgrade:
        raise RequestError(400, "wanted an upgrade to SPDY/3.1 or a WebSocket")
    tty = request.flag("tty")
    found = {
        "tty": tty,
        "stdin": request.flag("input"),
        "stdout": request.flag("output"),
        # A terminal has one output.
        "stderr": request.flag("error") and not tty,
    }
    if not (found["stdin"] or found["stdout"] or found["stderr"]):
        raise RequestError(400, "you must specify at least 1 of stdin, stdout, stderr")
    return found
