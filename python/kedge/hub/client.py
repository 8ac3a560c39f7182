# SPDX-License-Identifier: Apache-2.0
"""The node's end of the link: the face of the extension's ``HubClient``.

Rust keeps the connection, commits what arrives to the node's store and sends the reports that it
finds there; nothing of that passes through Python. Here it is told when the link comes and goes,
and the cloud can be asked things. ``read_link_record`` gives what a stopped agent last knew of its
link. Not here: certificates on disk (``kedge.hub.renewal``).
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core.HubClient
from kedge.aio import batches
from kedge.api.keys import ObjectKey
from kedge.errors import DeadlineExceeded, Disconnected, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.hub.certificates import Pair
    from kedge.runtime import Runtime
    from kedge.store import Store

log = logging.getLogger(__name__)

LINK_KEY = ObjectKey("kedge.io", "links", "", "hub")
"""Where the state of the link is kept in the node's store."""
REPORT_RESOURCES = (
    "nodes/registration",
    "nodes/status",
    "pods/status",
    "pods/deleted",
    "persistentvolumeclaims/size",
    "events",
)
"""What a node reports, in the core group."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """The link as it is now.

    Attributes:
        connected: whether it is up.
        synced: whether the node's view has been complete since it came up.
        since_ms: milliseconds since 1970 of the last change.
        last_error: why it last ended or did not come up.
        attempts: attempts since it was last up.
        waiting: reports that the cloud has not acknowledged.
        bytes_in: bytes read since the start, TLS included.
        bytes_out: bytes written.
    """

    connected: bool
    synced: bool
    since_ms: int
    last_error: str
    attempts: int
    waiting: int
    bytes_in: int
    bytes_out: int


class HubClient:
    """A node's link to its hub; connects from its construction on.

    Args:
        runtime: the process's runtime.
        store: the node's replica.
        server: the hub, as ``host:port``.
        node: this node's name, as in its certificate.
        ca: the certificate of the cluster's authority, PEM.
        certificate: the node's own.
        server_name: the name in the hub's certificate; empty for the host of ``server``.
        kubelet: what serves the connections that the cloud opens to this node.

    Raises:
        CertificateError: a certificate or key cannot be used.
        Invalid: the address cannot be used.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        *,
        server: str,
        node: str,
        ca: str,
        certificate: Pair,
        server_name: str = "kedge-hub",
        kubelet: _core.KubeletServer | None = None,
    ) -> None:
        config = {
            "server": server,
            "server_name": server_name,
            "node": node,
            "ca": ca,
            "certificate": certificate.certificate,
            "key": certificate.key,
            "agent": _core.VERSION,
        }
        self._inner = _core.HubClient(runtime, store.handle, json.dumps(config), kubelet)
        self._answers: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._ticket = 0
        self._connected = asyncio.Event()
        self._synced = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._disconnected.set()
        self._last_reason = ""

    @property
    def handle(self) -> _core.HubClient:
        """The Rust client, for the faces that hand it to other Rust parts."""
        return self._inner

    async def run(self) -> None:
        """Takes note of what happens to the link, until cancelled; then ends it."""
        try:
            async for batch in batches(self._inner):
                for event in batch:
                    self._take(event)
        finally:
            self.close()

    async def connected(self) -> None:
        """Waits until the link is up."""
        await self._connected.wait()

    async def disconnected(self) -> None:
        """Waits until the link is down."""
        await self._disconnected.wait()

    async def synced(self) -> None:
        """Waits until the node's view is complete and on the disk."""
        await self._synced.wait()

    async def request(self, method: str, body: bytes, timeout_seconds: float = 30.0) -> bytes:
        """Asks the cloud.

        Args:
            method: as ``certificate/renew``.
            body: what the method says.
            timeout_seconds: how long an answer may take.

        Raises:
            Disconnected: the link is down, or went down before the answer.
            DeadlineExceeded: no answer in time.
            Rejected: the cloud refused; the message is its own.
        """
        self._ticket += 1
        ticket = self._ticket
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._answers[ticket] = answer
        try:
            self._inner.request(ticket, method, body)
            async with asyncio.timeout(timeout_seconds):
                status, content = await answer
        except TimeoutError as error:
            raise DeadlineExceeded(f"{method}: no answer within {timeout_seconds:g} s") from error
        finally:
            del self._answers[ticket]
        if status in {0, 503}:
            raise Disconnected(f"{method}: {_message(content)}")
        if not 200 <= status < 300:
            raise Rejected(f"{method}: {status}: {_message(content)}")
        return content

    def set_certificate(self, certificate: Pair) -> None:
        """New connections use this certificate; the link that is up stays.

        Raises:
            CertificateError: it cannot be used.
        """
        self._inner.set_certificate(certificate.certificate, certificate.key)

    def status(self) -> LinkStatus:
        """The link as it is now."""
        return LinkStatus(*self._inner.status())

    def close(self) -> None:
        """Ends the link."""
        self._inner.close()

    def _take(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("connected", session):
                self._last_reason = ""
                self._connected.set()
                self._disconnected.clear()
                log.info("link up session=%d", session)
            case ("synced",):
                self._synced.set()
                log.info("link synced")
            case ("disconnected", reason, retry_in_ms):
                self._connected.clear()
                self._disconnected.set()
                self._synced.clear()
                # An outage is one line; attempts that fail in the same way are not news.
                level = logging.DEBUG if reason == self._last_reason else logging.WARNING
                self._last_reason = reason
                log.log(level, "link down reason=%s retry_in=%.1fs", reason, retry_in_ms / 1000)
            case ("response", ticket, status, body):
                answer = self._answers.get(ticket)
                if answer is not None and not answer.done():
                    answer.set_result((status, body))
            case ("rejected", what, reason):
                log.warning("the cloud refused object=%s reason=%s", what, reason)


def read_link_record(store: Store) -> Mapping[str, Any]:
    """What the node last knew of its link, also while no agent runs.

    Returns:
        ``state``, ``sinceMs``, ``lastError``, ``server`` and ``waiting``, the number of reports
        that the cloud has not acknowledged; ``state`` is ``never`` when there was no link yet.
    """
    held = store.get(LINK_KEY)
    status: dict[str, Any] = json.loads(held.value)["status"] if held else {"state": "never"}
    reported = int(status.get("reported", 0))
    reports = [store.list("", resource).items for resource in REPORT_RESOURCES]
    waiting = sum(report.revision > reported for listed in reports for report in listed)
    return {**status, "waiting": waiting}


def _message(content: bytes) -> str:
    text = content.decode(errors="replace")
    try:
        problem = json.loads(text)
    except ValueError:
        return text[:300]
    return str(problem.get("message", text))[:300] if isinstance(problem, dict) else text[:300]
