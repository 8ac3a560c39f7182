# SPDX-License-Identifier: Apache-2.0
"""A container runtime in memory: for tests, and for many nodes on one machine.

Containers run until told otherwise. A test scripts what it needs: ``exits`` (the codes of the next
starts of a container name), ``missing_images``, ``fail`` (verb to error), ``delays`` (verb to
seconds), and looks at ``calls``. Time comes from ``clock``.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kedge.edge.runtime import (
    Abilities,
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
)
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kedge.metrics import Histogram


class FakeRuntime:
    """Keeps sandboxes and containers as dictionaries.

    Args:
        clock: seconds since the epoch.
    """

    has_events = True

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self.sandboxes: dict[str, SandboxInfo] = {}
        self.containers: dict[str, ContainerInfo] = {}
        self.statuses: dict[str, ContainerStatus] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.missing_images: set[str] = set()
        self.images: set[str] = set()
        self.unpullable: set[str] = set()
        self.exits: dict[str, list[int]] = {}
        self.fail: dict[str, str] = {}
        self.delays: dict[str, float] = {}
        self.exec_results: dict[str, ExecResult] = {}
        self.grace_used: list[int] = []
        self.handlers: dict[str, str] = {}
        self.able = Abilities()
        self.network_info = NetworkInfo("fake", capabilities=frozenset(("portMappings",)))

    async def _call(self, verb: str) -> None:
        self.calls[verb] += 1
        await asyncio.sleep(self.delays.get(verb, 0))
        if verb in self.fail:
            raise RuntimeFailure(self.fail[verb])

    async def run(self) -> None:
        """Nothing to carry: sleeps."""
        await asyncio.Event().wait()

    async def cgroup_driver(self) -> str | None:
        """Cgroupfs."""
        await self._call("cgroup_driver")
        return "cgroupfs"

    async def version(self) -> RuntimeVersion:
        """A version."""
        await self._call("version")
        return RuntimeVersion("fake", "1.0", "v1")

    async def status(self) -> list[RuntimeCondition]:
        """Ready."""
        await self._call("status")
        return [
            RuntimeCondition("RuntimeReady", status=True),
            RuntimeCondition("NetworkReady", status=True),
        ]

    async def abilities(self) -> Abilities:
        """As the test says."""
        await self._call("abilities")
        return self.able

    async def network(self) -> NetworkInfo:
        """As the test says."""
        await self._call("network")
        return self.network_info

    async def run_sandbox(self, config: dict[str, Any], handler: str = "") -> str:
        """Makes a ready sandbox with an address."""
        await self._call("run_sandbox")
        number = next(self._ids)
        sandbox_id = f"sandbox-{number}"
        self.handlers[sandbox_id] = handler
        self.configs[sandbox_id] = config
        self.sandboxes[sandbox_id] = SandboxInfo(
            sandbox_id,
            config["metadata"]["attempt"],
            ready=True,
            created_at=self._clock(),
            labels=config.get("labels", {}),
            annotations=config.get("annotations", {}),
            ips=(f"10.1.{number // 250}.{number % 250 + 1}",),
        )
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Ends the sandbox and what runs in it."""
        await self._call("stop_sandbox")
        self.end_sandbox(sandbox_id)

    def end_sandbox(self, sandbox_id: str) -> None:
        """The sandbox ends, with all in it."""
        if sandbox_id in self.sandboxes:
            self.sandboxes[sandbox_id] = replace(self.sandboxes[sandbox_id], ready=False)
            for one in list(self.containers.values()):
                if one.sandbox_id == sandbox_id and one.state == "running":
                    self.end(one.id, 137)
            self._changed.put_nowait(sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Removes the sandbox and its containers."""
        await self._call("remove_sandbox")
        self.sandboxes.pop(sandbox_id, None)
        for one in [one for one in self.containers.values() if one.sandbox_id == sandbox_id]:
            del self.containers[one.id], self.statuses[one.id]

    async def list_sandboxes(self) -> list[SandboxInfo]:
        """All sandboxes."""
        await self._call("list_sandboxes")
        return list(self.sandboxes.values())

    async def sandbox_status(self, sandbox_id: str) -> SandboxInfo | None:
        """One sandbox."""
        await self._call("sandbox_status")
        return self.sandboxes.get(sandbox_id)

    async def create_container(
        self, sandbox_id: str, config: dict[str, Any], sandbox_config: dict[str, Any]
    ) -> str:
        """Creates a container."""
        await self._call("create_container")
        if sandbox_id not in self.sandboxes:
            raise RuntimeFailure(f"no such sandbox: {sandbox_id}")
        metadata = config["metadata"]
        for one in self.containers.values():
            if one.sandbox_id == sandbox_id and (one.name, one.attempt) == (
                metadata["name"],
                metadata["attempt"],
            ):
                raise RuntimeFailure(f"name is reserved: {one.name} {one.attempt}")
        container_id = f"container-{next(self._ids)}"
        self.configs[container_id] = config | {"sandbox_config": sandbox_config}
        self.containers[container_id] = ContainerInfo(
            container_id,
            sandbox_id,
            metadata["name"],
            metadata["attempt"],
            "created",
            image=config["image"].get("user_specified_image") or config["image"]["image"],
            image_ref=config["image"]["image"],
            created_at=self._clock(),
            labels=config.get("labels", {}),
            annotations=config.get("annotations", {}),
        )
        self.statuses[container_id] = ContainerStatus(
            container_id, "created", image_ref=config["image"]["image"]
        )
        return container_id

    async def start_container(self, container_id: str) -> None:
        """Starts it; it ends at once if a code is scripted for its name."""
        await self._call("start_container")
        one = self.containers[container_id]
        self._set(container_id, "running", started_at=self._clock())
        codes = self.exits.get(one.name)
        if codes:
            self.end(container_id, codes.pop(0))

    def end(self, container_id: str, code: int) -> None:
        """A container ends by itself."""
        self._set(container_id, "exited", finished_at=self._clock(), exit_code=code)
        self._changed.put_nowait(container_id)

    def _set(self, container_id: str, state: str, **values: Any) -> None:
        self.containers[container_id] = replace(self.containers[container_id], state=state)
        self.statuses[container_id] = replace(self.statuses[container_id], state=state, **values)

    async def stop_container(self, container_id: str, timeout_seconds: int) -> None:
        """Ends it with 137, or 0 when there was grace."""
        self.grace_used.append(timeout_seconds)
        await self._call("stop_container")
        if container_id in self.containers and self.containers[container_id].state == "running":
            self.end(container_id, 0 if timeout_seconds else 137)

    async def remove_container(self, container_id: str) -> None:
        """Removes it."""
        await self._call("remove_container")
        self.containers.pop(container_id, None)
        self.statuses.pop(container_id, None)

    async def list_containers(self) -> list[ContainerInfo]:
        """All containers."""
        await self._call("list_containers")
        return list(self.containers.values())

    async def container_status(self, container_id: str) -> ContainerStatus | None:
        """One container."""
        await self._call("container_status")
        return self.statuses.get(container_id)

    async def exec_sync(
        self, container_id: str, command: list[str], timeout_seconds: float
    ) -> ExecResult:
        """What is scripted for the container's name; success otherwise."""
        del command, timeout_seconds
        await self._call("exec_sync")
        return self.exec_results.get(self.containers[container_id].name, ExecResult(0))

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
        """An address that says what was asked; nothing is there."""
        await self._call("exec")
        wanted = f"tty={tty}&stdin={stdin}&stdout={stdout}&stderr={stderr}"
        return f"http://127.0.0.1:1/exec/{container_id}/{'/'.join(command)}?{wanted}"

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """An address that says what was asked; nothing is there."""
        await self._call("attach")
        wanted = f"tty={tty}&stdin={stdin}&stdout={stdout}&stderr={stderr}"
        return f"http://127.0.0.1:1/attach/{container_id}?{wanted}"

    async def port_forward(self, sandbox_id: str, ports: list[int]) -> str:
        """An address that says what was asked; nothing is there."""
        await self._call("port_forward")
        return f"http://127.0.0.1:1/portforward/{sandbox_id}?ports={ports}"

    async def pull_image(self, image: str, auth: dict[str, Any] | None) -> str:
        """Pulls unless the image is unpullable."""
        del auth
        await self._call("pull_image")
        if image in self.unpullable:
            raise RuntimeFailure(f"not found: {image}")
        self.missing_images.discard(image)
        self.images.add(image)
        return f"sha256:{image}"

    async def image_status(self, image: str) -> Image | None:
        """Every image is there unless it is missing."""
        await self._call("image_status")
        return None if image in self.missing_images else Image(f"sha256:{image}", (image,))

    async def list_images(self) -> list[Image]:
        """The images that were pulled."""
        await self._call("list_images")
        return [Image(f"sha256:{one}", (one,)) for one in sorted(self.images)]

    async def remove_image(self, image: str) -> None:
        """Removes it: it is missing from now on."""
        await self._call("remove_image")
        self.images.discard(image)
        self.missing_images.add(image)

    async def own_images(self) -> set[str]:
        """The sandbox image."""
        await self._call("own_images")
        return {"pause"}

    async def image_filesystems(self) -> list[FilesystemUsage]:
        """None: nothing is on a disk."""
        await self._call("image_filesystems")
        return []

    async def container_stats(self) -> list[ContainerStats]:
        """A megabyte for each running container."""
        await self._call("container_stats")
        running = [one.id for one in self.containers.values() if one.state == "running"]
        return [ContainerStats(one, self._clock(), 0.1, 1 << 20, 0) for one in running]

    def operations(self) -> dict[tuple[str, bool], int]:
        """None failed."""
        return {(verb, False): count for verb, count in self.calls.items()}

    def durations(self) -> dict[str, Histogram]:
        """Nothing takes time here."""
        return {}

    async def update_container_resources(self, container_id: str, linux: dict[str, Any]) -> None:
        """Keeps the new limits in ``configs``."""
        await self._call("update_container_resources")
        if container_id not in self.containers:
            raise RuntimeFailure(f"no such container: {container_id}")
        self.configs[container_id] |= {"resources": linux}

    async def reopen_container_log(self, container_id: str) -> None:
        """Nothing to do."""
        del container_id
        await self._call("reopen_container_log")

    async def events(self) -> AsyncIterator[str]:
        """The ids of what changed by itself."""
        while True:
            yield await self._changed.get()

    def lose_everything(self) -> None:
        """As after a reboot that empties the runtime."""
        self.sandboxes.clear()
        self.containers.clear()
        self.statuses.clear()
