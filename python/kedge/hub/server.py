# SPDX-License-Identifier: Apache-2.0
"""The hub's end of the link: the face of the extension's ``HubServer``.

The server listens from its construction on; it answers joins at once and takes links after
``open``. What nodes send arrives as flat tuples, in batches, from a bounded queue: who does not
iterate ``events`` slows the nodes down and loses nothing. A report is acknowledged by ``ack`` once
the API has answered; until then its node keeps it. Views, sessions, TLS and who may report what are
in Rust; ``docs/reference/link.md`` describes them.

Events:
    - ``("connected", node, session, peer, key_hash, agent, uid)``: the UID of its Node
    - ``("disconnected", node, session, reason)``
    - ``("report", node, session, seq, group, resource, namespace, name, value)``
    - ``("request", node, session, request, method, body)``: answer with ``respond``
    - ``("join", join, path, body, peer)``: answer with ``respond_join``
    - ``("leave", leave, node, uid, key_hash, peer)``: a node wants its Node deleted, by its certificate;
      answer with ``respond_join``
    - ``("lookup", lookup, node, peer)``: a certificate that does not fit the mirrored Node; answer with
      ``respond_join``: 200 and the Node as the API has it, 404, or 503 and why it cannot be told
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from kedge import _core, metrics  # noqa: TID251 - this file is the face of _core.HubServer
from kedge.aio import batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kedge.hub.certificates import Pair
    from kedge.runtime import Runtime
    from kedge.store import Store

log = logging.getLogger(__name__)

ServerEvent = tuple[Any, ...]
"""One of the tuples in this module's docstring."""


class HubServer:
    """A hub over a mirror store.

    Args:
        runtime: the process's runtime.
        store: the mirror; nodes get what their views hold of it.
        listen: address and port, as ``0.0.0.0:10000``; port 0 takes any.
        ca: the certificate of the authority of nodes, PEM.
        certificate: the hub's own.
        name: the software version that nodes are told.
        max_connections: further connections are closed.

    Raises:
        CertificateError: a certificate or key cannot be used.
        KedgeError: the address cannot be listened on.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        *,
        listen: str,
        ca: str,
        certificate: Pair,
        name: str = "",
        max_connections: int = 120_000,
    ) -> None:
        config = {
            "listen": listen,
            "certificate": certificate.certificate,
            "key": certificate.key,
            "ca": ca,
            "name": name or _core.VERSION,
            "max_connections": max_connections,
        }
        self._ca = ca
        self._inner = _core.HubServer(runtime, store.handle, json.dumps(config))

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._inner.port

    def open(self) -> None:
        """Takes links from now on.

        Call it when the mirror is complete: what a mirror lacks is deleted on the nodes.
        """
        self._inner.open()

    def offer_api(self, runtime: Runtime, server: str, ca: str, server_name: str = "") -> None:
        """Lets nodes reach the API server, with nobody's rights but those of what they send.

        Args:
            runtime: the process's runtime.
            server: ``https://HOST:PORT``.
            ca: the authority of its certificate, PEM.
            server_name: the name in it, if that is not the host.

        Raises:
            Invalid: the address cannot be used.
        """
        self._inner.offer_api(runtime, server, ca, server_name)

    async def events(self) -> AsyncIterator[list[ServerEvent]]:
        """Yields what happened, a batch at a time, until the caller stops."""
        async for batch in batches(self._inner):
            events = [event for event in batch if not _is_refusal(event)]
            if events:
                yield events

    def ack(self, session: int, seqs: Sequence[int]) -> None:
        """Tells a node that its reports are done; a session that has ended is no error."""
        self._inner.ack(session, seqs)

    def nack(self, session: int, seq: int, reason: str) -> None:
        """Tells a node that a report will never be done; it does not come again."""
        self._inner.nack(session, seq, reason)

    def respond(self, session: int, request: int, status: int, body: bytes) -> None:
        """Answers a request, with a status as in HTTP."""
        self._inner.respond(session, request, status, body)

    def respond_join(self, join: int, status: int, body: bytes) -> None:
        """Answers a join, a leave or a lookup."""
        self._inner.respond_join(join, status, body)

    def disconnect(self, node: str, reason: str) -> None:
        """Ends a node's link and tells it why."""
        self._inner.disconnect(node, reason)

    def allow_key(self, session: int, key_hash: str) -> None:
        """The Node of this session is about to be pinned to this key; its link goes on."""
        self._inner.allow_key(session, key_hash)

    def set_certificate(self, certificate: Pair, ca: str | None = None) -> None:
        """New connections see this certificate, and are checked against this authority."""
        self._ca = ca or self._ca
        self._inner.set_certificates(certificate.certificate, certificate.key, self._ca)

    def stats(self) -> dict[str, int]:
        """Connections, refusals, objects and bytes (TLS included) since the start."""
        return dict(self._inner.stats())

    def close(self, retry_after_ms: int = 1000) -> None:
        """Tells the nodes to come back after a while, and stops."""
        self._inner.close(retry_after_ms)


def _is_refusal(event: ServerEvent) -> bool:
    if event[0] != "refused":
        return False
    _, node, _, what, reason, count = event
    metrics.count("kedge_hub_refused_total", count)
    log.warning("refused node=%s object=%s reason=%r count=%d", node, what, reason, count)
    return True
