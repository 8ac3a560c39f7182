# SPDX-License-Identifier: Apache-2.0
"""What the kubelet needs of a container runtime: CRI's verbs, asynchronous, with typed answers.

Configurations go in as dictionaries with the field names of CRI v1. Every method raises
``RuntimeFailure`` when the runtime refuses or does not answer; asking for the status of what is not
there answers None, and stopping or removing it is no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kedge.edge.runtime.types import (
    Abilities,
    CallFailed,
    ContainerInfo,
    ContainerStats,
    ContainerStatus,
    ExecResult,
    FilesystemUsage,
    Handler,
    Image,
    NetworkInfo,
    RuntimeCondition,
    RuntimeVersion,
    SandboxInfo,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kedge.metrics import Histogram

__all__ = [
    "Abilities",
    "CallFailed",
    "ContainerInfo",
    "ContainerRuntime",
    "ContainerStats",
    "ContainerStatus",
    "ExecResult",
    "FilesystemUsage",
    "Handler",
    "Image",
    "NetworkInfo",
    "RuntimeCondition",
    "RuntimeVersion",
    "SandboxInfo",
]


class ContainerRuntime(Protocol):
    """Runs containers."""

    has_events: bool
    """Whether ``events`` tells of every change; else the caller lists now and then."""

    async def run(self) -> None:
        """Carries calls and answers until cancelled; a task of the role."""

    async def version(self) -> RuntimeVersion:
        """Name and versions of the runtime."""

    async def cgroup_driver(self) -> str | None:
        """``systemd`` or ``cgroupfs`` as the runtime is set; None when it does not tell."""

    async def status(self) -> list[RuntimeCondition]:
        """Its conditions, ``RuntimeReady`` and ``NetworkReady`` among them."""

    async def abilities(self) -> Abilities:
        """What it can do beyond the ordinary."""

    async def network(self) -> NetworkInfo:
        """Which network pods get, and what that can do."""

    async def run_sandbox(self, config: dict[str, Any], handler: str = "") -> str:
        """Makes and starts a sandbox with one of the runtime's handlers; its id."""

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stops a sandbox and what runs in it, and takes its network down."""

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Removes a sandbox and its containers."""

    async def list_sandboxes(self) -> list[SandboxInfo]:
        """All sandboxes, without addresses."""

    async def sandbox_status(self, sandbox_id: str) -> SandboxInfo | None:
        """One sandbox with its addresses; None if it is not there."""

    async def create_container(
        self, sandbox_id: str, config: dict[str, Any], sandbox_config: dict[str, Any]
    ) -> str:
        """Creates a container; its id."""

    async def start_container(self, container_id: str) -> None:
        """Starts it."""

    async def stop_container(self, container_id: str, timeout_seconds: int) -> None:
        """Asks it to end, and kills it after ``timeout_seconds``."""

    async def remove_container(self, container_id: str) -> None:
        """Removes it, killing it if it runs."""

    async def list_containers(self) -> list[ContainerInfo]:
        """All containers."""

    async def container_status(self, container_id: str) -> ContainerStatus | None:
        """One container in full; None if it is not there."""

    async def exec_sync(
        self, container_id: str, command: list[str], timeout_seconds: float
    ) -> ExecResult:
        """Runs a command in a container to its end; it is killed after ``timeout_seconds``."""

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

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """The same for a container's own streams."""

    async def port_forward(self, sandbox_id: str, ports: list[int]) -> str:
        """The same for connections to ports of a sandbox."""

    async def pull_image(self, image: str, auth: dict[str, Any] | None) -> str:
        """Pulls an image; its reference in the runtime."""

    async def image_status(self, image: str) -> Image | None:
        """One image by name or id; None if it is not there."""

    async def list_images(self) -> list[Image]:
        """All images."""

    async def remove_image(self, image: str) -> None:
        """Removes an image."""

    async def own_images(self) -> set[str]:
        """Names of images that the runtime itself needs, as far as it tells."""

    async def container_stats(self) -> list[ContainerStats]:
        """What each running container uses."""

    async def image_filesystems(self) -> list[FilesystemUsage]:
        """Where images are and what they take."""

    def operations(self) -> Mapping[tuple[str, bool], int]:
        """How many calls there were, by CRI's method and whether they failed."""

    def durations(self) -> Mapping[str, Histogram]:
        """How long they took, in seconds, by CRI's method."""

    async def update_container_resources(self, container_id: str, linux: dict[str, Any]) -> None:
        """Gives a running container other limits (``LinuxContainerResources``)."""

    async def reopen_container_log(self, container_id: str) -> None:
        """Makes the runtime write to the log's path anew, after a rotation."""

    def events(self) -> AsyncIterator[str]:
        """Ids of sandboxes and containers that changed, came or went; first all there are."""
