# SPDX-License-Identifier: Apache-2.0
"""What the runtime has of this node's pods, by the UID of the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kedge.edge.kubelet import labels
from kedge.edge.kubelet.pod import observe
from kedge.edge.kubelet.pod.state import Container, Sandbox

if TYPE_CHECKING:
    from kedge.edge.runtime import ContainerRuntime, SandboxInfo

Sandboxes: TypeAlias = dict[str, dict[str, Sandbox]]
Containers: TypeAlias = dict[str, dict[str, Container]]
"""By pod UID, then by the runtime's id."""


class Inventory:
    """Asks the runtime.

    Args:
        runtime: whom to ask.
        node: this node's name; what another made in the same runtime is not ours.
    """

    def __init__(self, runtime: ContainerRuntime, node: str) -> None:
        self._runtime = runtime
        self._node = node

    def is_ours(self, one: SandboxInfo) -> bool:
        """Whether this node made it for a pod."""
        return one.labels.get(labels.MANAGED_BY) == self._node and labels.POD_UID in one.labels

    async def sandbox(self, info: SandboxInfo) -> Sandbox | None:
        """A listed sandbox as it is now; None if it has gone.

        Raises:
            RuntimeFailure: the runtime does not answer.
        """
        status = await self._runtime.sandbox_status(info.id)
        return None if status is None else observe.sandbox(status, tuple(status.ips))

    async def take(self) -> tuple[Sandboxes, Containers]:
        """All sandboxes and containers of this node, with their states.

        Raises:
            RuntimeFailure: the runtime does not answer.
        """
        listed = [one for one in await self._runtime.list_sandboxes() if self.is_ours(one)]
        sandboxes: Sandboxes = {}
        for one in listed:
            found = await self.sandbox(one)
            if found is not None:
                sandboxes.setdefault(one.labels[labels.POD_UID], {})[one.id] = found
        ours = {one.id for one in listed}
        containers: Containers = {}
        for info in await self._runtime.list_containers():
            if info.sandbox_id in ours and labels.POD_UID in info.labels:
                status = await self._runtime.container_status(info.id)
                if status is not None:
                    containers.setdefault(info.labels[labels.POD_UID], {})[info.id] = (
                        observe.container(info, status)
                    )
        return sandboxes, containers
