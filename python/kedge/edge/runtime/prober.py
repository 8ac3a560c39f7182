# SPDX-License-Identifier: Apache-2.0
"""Network probes of containers: the face of the extension's ``Prober``.

Rust connects, speaks TLS, HTTP and gRPC, and keeps the deadline; a probe here is a ticket and a
future. What is probed, how often and what the results mean is the kubelet's.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core's Prober
from kedge.aio import batches

if TYPE_CHECKING:
    from kedge.runtime import Runtime


class NetworkProber:
    """Makes network probes; ``run`` must be going for them to return.

    Args:
        runtime: the process's tokio runtime.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._prober = _core.Prober(runtime)
        self._waiting: dict[int, asyncio.Future[tuple[bool, str]]] = {}
        self._ticket = 0

    async def run(self) -> None:
        """Hands results to those who wait, until cancelled."""
        try:
            async for batch in batches(self._prober):
                for ticket, healthy, text in batch:
                    waiting = self._waiting.get(ticket)
                    if waiting is not None and not waiting.done():
                        waiting.set_result((healthy, text))
        finally:
            self._prober.close()

    async def probe(self, what: dict[str, Any], timeout_seconds: float) -> tuple[bool, str]:
        """Whether what is asked answers in time, and what to show if not.

        Args:
            what: ``kind`` (http, https, tcp, grpc), ``host``, ``port``; for HTTP ``path`` and
                ``headers`` (pairs), for gRPC the service as ``path``.
            timeout_seconds: for the whole of it.

        Raises:
            Invalid: it is no probe.
            RuntimeFailure: too many are under way.
        """
        self._ticket += 1
        ticket = self._ticket
        result: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = result
        try:
            self._prober.start(ticket, json.dumps(what), math.ceil(timeout_seconds * 1000))
            return await result
        finally:
            del self._waiting[ticket]
