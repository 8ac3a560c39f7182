# SPDX-License-Identifier: Apache-2.0
"""A container runtime behind a CRI v1 socket: the face of the extension's ``CriClient``.

A call is a ticket and a future: Rust carries the request and puts the answer into an inbox, ``run``
takes answers out a batch at a time. Every call has a deadline. A caller that is cancelled gives up
waiting, not the call: the runtime finishes what it was told. Nothing here decides; what the answers
mean in Kubernetes is the kubelet's. Which containers changed is found in Rust (``events``): the
runtime's event stream where it has one, lists compared at a falling pace where not.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core's CriClient
from kedge.aio import batches
from kedge.edge.runtime import (
    Abilities,
    CallFailed,
    ContainerInfo,
    ContainerStats,
    ContainerStatus,
    ExecResult,
    FilesystemUsage,
    Image,
    NetworkInfo,
    RuntimeCondition,
    RuntimeVersion,
    SandboxInfo,
    answers,
)
from kedge.errors import Closed
from kedge.metrics import Histogram

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kedge.runtime import Runtime

CHANGES, NOT_FOUND, UNIMPLEMENTED = -1, 5, 12

CALL_SECONDS = 30.0
RUN_SANDBOX_SECONDS = 240.0
PULL_SECONDS = 3600.0
STOP_EXTRA_SECONDS = 30.0
EXEC_EXTRA_SECONDS = 10.0
_WATCH_TICKET = 0
_BOUNDS = (0.005, 0.0125, 0.031, 0.078, 0.195, 0.488, 1.221, 3.052, 7.629, 19.07, 47.68, 119.2)
"""Of the figures of calls, in seconds: each 2.5 times the one before, as the kubelet's."""


class CriRuntime:
    """Speaks CRI v1 to the runtime at ``endpoint``; ``run`` must be going for calls to return.

    Args:
        runtime: the process's tokio runtime.
        endpoint: such as ``unix:///run/containerd/containerd.sock``.
    """

    has_events = True

    def __init__(self, runtime: Runtime, endpoint: str) -> None:
        self.endpoint = endpoint
        self._client = _core.CriClient(runtime, endpoint)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._ticket = _WATCH_TICKET
        self._changed: dict[str, None] = {}
        self._news = asyncio.Event()
        self._is_watching = False
        self._is_closed = False
        self._operations: dict[tuple[str, bool], int] = {}
        self._durations: dict[str, Histogram] = {}

    def operations(self) -> dict[tuple[str, bool], int]:
        """How many calls there were, by CRI's method and whether they failed."""
        return self._operations

    def durations(self) -> dict[str, Histogram]:
        """How long they took, in seconds, by CRI's method."""
        return self._durations

    async def run(self) -> None:
        """Hands answers to those who wait, until cancelled."""
        try:
            async for batch in batches(self._client):
                for ticket, code, body in batch:
                    if code == CHANGES:
                        self._note(body)
                    else:
                        self._answer(ticket, code, body)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the connection; whoever waits gets ``Closed``."""
        self._is_closed = True
        self._client.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Closed("the container runtime client was closed"))
        self._waiting.clear()

    async def call(
        self, method: str, request: dict[str, Any], seconds: float = CALL_SECONDS
    ) -> Any:
        """Calls a method of CRI by its name; the answer as it came, decoded.

        Raises:
            CallFailed: the runtime refused, failed, is away or did not answer in time.
            Closed: this client was closed.
        """
        if self._is_closed:
            raise Closed("the container runtime client was closed")
        self._ticket += 1
        ticket = self._ticket
        loop = asyncio.get_running_loop()
        began = loop.time()
        future: asyncio.Future[bytes] = loop.create_future()
        self._waiting[ticket] = future
        try:
            body = json.dumps(request, ensure_ascii=False).encode()
            self._client.call(ticket, method, body, int(seconds * 1000))
            found = json.loads(await future)
        except CallFailed:
            self._count(method, loop.time() - began, is_failed=True)
            raise
        finally:
            self._waiting.pop(ticket, None)
        self._count(method, loop.time() - began, is_failed=False)
        return found

    def _count(self, method: str, seconds: float, *, is_failed: bool) -> None:
        key = (method, is_failed)
        self._operations[key] = self._operations.get(key, 0) + 1
        times = self._durations.get(method)
        if times is None:
            times = self._durations[method] = Histogram(*_BOUNDS)
        times.add(seconds)

    async def version(self) -> RuntimeVersion:
        """Name and versions of the runtime."""
        return answers.version(await self.call("Version", {}))

    async def status(self) -> list[RuntimeCondition]:
        """Its conditions, ``RuntimeReady`` and ``NetworkReady`` among them."""
        return answers.conditions(await self.call("Status", {}))

    async def cgroup_driver(self) -> str | None:
        """``systemd`` or ``cgroupfs`` as the runtime is set; None when it does not tell."""
        try:
            found = await self.call("RuntimeConfig", {})
        except CallFailed as error:
            if error.code != UNIMPLEMENTED:
                raise
        else:
            if found["linux"] is not None:
                return ("systemd", "cgroupfs")[found["linux"]["cgroup_driver"] != 0]
        # containerd 1.x tells only as part of its configuration
        return answers.cgroup_driver(await self.call("Status", {"verbose": True}))

    async def abilities(self) -> Abilities:
        """What it can do beyond the ordinary."""
        return answers.abilities(await self.call("Status", {"verbose": True}))

    async def network(self) -> NetworkInfo:
        """Which network pods get, and what that can do."""
        return answers.network(await self.call("Status", {"verbose": True}))

    async def knows_cdi(self) -> bool:
        """Whether the runtime takes ``cdi_devices``: containerd since 1.7 where it is switched on, others do."""
        found = await self.version()
        if found.name != "containerd":
            return True
        numbers = found.version.removeprefix("v").split(".")[:2]
        try:
            major, minor = (int(one) for one in numbers)
        except ValueError:
            return False
        if (major, minor) < (1, 7):
            return False
        switched_on = answers.cdi(await self.call("Status", {"verbose": True}))
        return major > 1 if switched_on is None else switched_on

    async def run_sandbox(self, config: dict[str, Any], handler: str = "") -> str:
        """Makes and starts a sandbox with one of the runtime's handlers; its id."""
        request = {"config": config, "runtime_handler": handler}
        found = await self.call("RunPodSandbox", request, RUN_SANDBOX_SECONDS)
        return str(found["pod_sandbox_id"])

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stops a sandbox and what runs in it, and takes its network down."""
        await self._end("StopPodSandbox", {"pod_sandbox_id": sandbox_id}, RUN_SANDBOX_SECONDS)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Removes a sandbox and its containers."""
        await self._end("RemovePodSandbox", {"pod_sandbox_id": sandbox_id}, RUN_SANDBOX_SECONDS)

    async def list_sandboxes(self) -> list[SandboxInfo]:
        """All sandboxes."""
        return answers.sandboxes(await self.call("ListPodSandbox", {}))

    async def sandbox_status(self, sandbox_id: str) -> SandboxInfo | None:
        """One sandbox with its addresses; None if it is not there."""
        found = await self._find("PodSandboxStatus", {"pod_sandbox_id": sandbox_id})
        return None if found is None else answers.sandbox(found["status"])

    async def create_container(
        self, sandbox_id: str, config: dict[str, Any], sandbox_config: dict[str, Any]
    ) -> str:
        """Creates a container; its id."""
        request = {"pod_sandbox_id": sandbox_id, "config": config, "sandbox_config": sandbox_config}
        return str(
            (await self.call("CreateContainer", request, RUN_SANDBOX_SECONDS))["container_id"]
        )

    async def start_container(self, container_id: str) -> None:
        """Starts it."""
        await self.call("StartContainer", {"container_id": container_id}, RUN_SANDBOX_SECONDS)

    async def stop_container(self, container_id: str, timeout_seconds: int) -> None:
        """Asks it to end, and kills it after ``timeout_seconds``."""
        request = {"container_id": container_id, "timeout": timeout_seconds}
        await self._end("StopContainer", request, timeout_seconds + STOP_EXTRA_SECONDS)

    async def remove_container(self, container_id: str) -> None:
        """Removes it, killing it if it runs."""
        await self._end("RemoveContainer", {"container_id": container_id}, RUN_SANDBOX_SECONDS)

    async def list_containers(self) -> list[ContainerInfo]:
        """All containers."""
        return answers.containers(await self.call("ListContainers", {}))

    async def container_status(self, container_id: str) -> ContainerStatus | None:
        """One container in full; None if it is not there."""
        found = await self._find("ContainerStatus", {"container_id": container_id})
        return None if found is None else answers.container_status(found["status"])

    async def container_stats(self) -> list[ContainerStats]:
        """What each running container uses."""
        return answers.container_stats(await self.call("ListContainerStats", {}))

    async def update_container_resources(self, container_id: str, linux: dict[str, Any]) -> None:
        """Gives a running container other limits."""
        await self.call("UpdateContainerResources", {"container_id": container_id, "linux": linux})

    async def exec_sync(
        self, container_id: str, command: list[str], timeout_seconds: float
    ) -> ExecResult:
        """Runs a command in a container to its end; the runtime kills it after ``timeout_seconds``."""
        seconds = max(1, math.ceil(timeout_seconds))
        request = {"container_id": container_id, "cmd": command, "timeout": seconds}
        return answers.executed(await self.call("ExecSync", request, seconds + EXEC_EXTRA_SECONDS))

    async def exec(
        self,
        container_id: str,
        command: list[str],
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> str:
        """Prepares a command with streams; where its streaming server serves it, once."""
        request = {"container_id": container_id, "cmd": command, "tty": tty, "stdin": stdin}
        request |= {"stdout": stdout, "stderr": stderr}
        return str((await self.call("Exec", request))["url"])

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """The same for a container's own streams."""
        request = {"container_id": container_id, "tty": tty, "stdin": stdin}
        request |= {"stdout": stdout, "stderr": stderr}
        return str((await self.call("Attach", request))["url"])

    async def port_forward(self, sandbox_id: str, ports: list[int]) -> str:
        """The same for connections to ports of a sandbox."""
        request = {"pod_sandbox_id": sandbox_id, "port": ports}
        return str((await self.call("PortForward", request))["url"])

    async def reopen_container_log(self, container_id: str) -> None:
        """Makes the runtime write to the log's path anew, after a rotation."""
        await self.call("ReopenContainerLog", {"container_id": container_id})

    async def pull_image(self, image: str, auth: dict[str, Any] | None) -> str:
        """Pulls an image; its reference in the runtime."""
        request = {"image": {"image": image}, "auth": auth}
        return str((await self.call("PullImage", request, PULL_SECONDS))["image_ref"])

    async def image_status(self, image: str) -> Image | None:
        """One image by name or id; None if it is not there."""
        found = await self._find("ImageStatus", {"image": {"image": image}})
        return None if found is None or found["image"] is None else answers.image(found["image"])

    async def list_images(self) -> list[Image]:
        """All images."""
        return [answers.image(one) for one in (await self.call("ListImages", {}))["images"]]

    async def remove_image(self, image: str) -> None:
        """Removes an image."""
        await self._end("RemoveImage", {"image": {"image": image}}, CALL_SECONDS)

    async def own_images(self) -> set[str]:
        """Names of images that the runtime itself needs, as far as it tells."""
        return answers.own_images(await self.call("Status", {"verbose": True}))

    async def image_filesystems(self) -> list[FilesystemUsage]:
        """Where images are and what they take."""
        return answers.filesystems(await self.call("ImageFsInfo", {}))

    async def events(self) -> AsyncIterator[str]:
        """Ids of sandboxes and containers whose state changed, or that came or went; first all there are.

        An id that changed again before it was taken comes once. One caller at a time.
        """
        if not self._is_watching:
            self._client.watch(_WATCH_TICKET)
            self._is_watching = True
        while True:
            while self._changed:
                found = next(iter(self._changed))
                del self._changed[found]
                yield found
            self._news.clear()
            await self._news.wait()

    def look(self) -> None:
        """Looks for changes soon, rather than when it is time."""
        self._client.look()

    async def _find(self, method: str, request: dict[str, Any]) -> Any:
        try:
            return await self.call(method, request)
        except CallFailed as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def _end(self, method: str, request: dict[str, Any], seconds: float) -> None:
        try:
            await self.call(method, request, seconds)
        except CallFailed as error:
            if error.code != NOT_FOUND:
                raise

    def _note(self, body: bytes) -> None:
        for change in json.loads(body):
            self._changed[change["id"]] = None
        self._news.set()

    def _answer(self, ticket: int, code: int, body: bytes) -> None:
        future = self._waiting.get(ticket)
        if future is None or future.done():
            return
        if code == 0:
            future.set_result(body)
        else:
            future.set_exception(CallFailed(code, body.decode(errors="replace")))
