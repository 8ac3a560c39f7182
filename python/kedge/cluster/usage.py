# SPDX-License-Identifier: Apache-2.0
"""How controllers ask the own API server for what Rust answers without Python: the use of nodes and pods.

The client is made when somebody asks for the first time: a cluster without autoscalers has none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.kube import KubeClient
    from kedge.runtime import Runtime

SECONDS = 10.0
"""How long an answer may take: nodes are asked for it."""


class Usage:
    """Asks the own API server.

    Args:
        runtime: the process's runtime.
        kubeconfig: where the server is, and who asks.
        group: gets the task that brings answers.
    """

    def __init__(self, runtime: Runtime, kubeconfig: Path, group: asyncio.TaskGroup) -> None:
        self._runtime = runtime
        self._kubeconfig = kubeconfig
        self._group = group
        self._made: asyncio.Task[KubeClient] | None = None

    async def ask(self, path: str) -> dict[str, Any]:
        """What there is at a path.

        Raises:
            ApiError: the server refuses.
            Disconnected: no answer came in time.
        """
        if self._made is None:
            self._made = self._group.create_task(self._make())
        client = await asyncio.shield(self._made)
        return await client.request("GET", path, timeout_seconds=SECONDS)

    async def _make(self) -> KubeClient:
        from kedge.kube import KubeClient  # noqa: PLC0415 - only where there is an autoscaler

        client = await asyncio.to_thread(
            KubeClient.from_kubeconfig, self._runtime, self._kubeconfig
        )
        self._group.create_task(client.run())
        return client
