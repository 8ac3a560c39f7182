# SPDX-License-Identifier: Apache-2.0
"""Where each event of the hub goes.

Joins and requests are answered side by side, at most ``MAX_ANSWERS`` at a time; beyond that the next
batch waits, and with it the hub. Everything else is handed on at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from kedge import metrics
from kedge.api.keys import ObjectKey
from kedge.cloud import renewal
from kedge.cloud.reports import Report
from kedge.cloud.sessions import Session
from kedge.errors import ApiError, KedgeError, Rejected

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from kedge.cloud.joining import Joining
    from kedge.cloud.leases import Leases
    from kedge.cloud.leaving import Leaving
    from kedge.cloud.lookups import Lookups
    from kedge.cloud.pod_tokens import PodTokens
    from kedge.cloud.renewal import Renewal
    from kedge.cloud.reports import Reports
    from kedge.cloud.sessions import Sessions
    from kedge.hub.server import HubServer

log = logging.getLogger(__name__)

MAX_ANSWERS = 64
JOIN_PATH = "/v1/join"
ANSWER_SECONDS = 15


class Dispatcher:
    """Hands the hub's events to whom they concern.

    Args:
        hub: where events come from and answers go.
        sessions: kept up to date here.
        reports: gets what nodes say.
        leases: is told who connects.
        pod_tokens: is told who connects.
        joining: answers strangers.
        renewals: answers nodes that want a certificate.
        lookups: answers the hub where its mirror may be behind.
        leaving: answers nodes that go for good.
    """

    def __init__(
        self,
        *,
        hub: HubServer,
        sessions: Sessions,
        reports: Reports,
        leases: Leases,
        pod_tokens: PodTokens,
        joining: Joining,
        renewals: Renewal,
        lookups: Lookups,
        leaving: Leaving,
    ) -> None:
        self._hub = hub
        self._sessions = sessions
        self._reports = reports
        self._leases = leases
        self._pod_tokens = pod_tokens
        self._joining = joining
        self._renewals = renewals
        self._lookups = lookups
        self._leaving = leaving
        self._answers = asyncio.Semaphore(MAX_ANSWERS)

    async def run(self) -> None:
        """Hands events on until cancelled."""
        async with asyncio.TaskGroup() as group:
            async for batch in self._hub.events():
                for event in batch:
                    answer = self._dispatch(event)
                    if answer is not None:
                        await self._answers.acquire()
                        group.create_task(self._within_limits(answer))

    def _dispatch(self, event: tuple[Any, ...]) -> Coroutine[None, None, None] | None:
        match event:
            case ("report", node, session, seq, group, resource, namespace, name, value):
                key = ObjectKey(group, resource, namespace, name)
                self._reports.submit(Report(node, session, seq, key, value))
            case ("connected", node, session, peer, key_hash, _, uid):
                self._connected(Session(session, node, peer, key_hash, uid))
            case ("disconnected", node, session, *_):
                self._disconnected(node, session)
            case ("request", node, session, ticket, method, body):
                return self._request(node, session, ticket, method, body)
            case ("join", *_, connection, path, body, peer):
                return self._join(connection, path, body, peer)
            case ("leave", connection, node, uid, key_hash, peer):
                return self._leave(connection, node, uid, key_hash, peer)
            case ("lookup", lookup, node, peer):
                return self._lookup(lookup, node, peer)
            case _:
                log.error("unknown event of the hub kind=%s", event[0])
        return None

    def _connected(self, session: Session) -> None:
        self._sessions.connected(session)
        self._leases.connected(session.node)
        self._pod_tokens.connected(session.node)
        metrics.gauge("kedge_sessions", len(self._sessions))
        log.info("node connected node=%s peer=%s", session.node, session.peer)

    def _disconnected(self, node: str, session: int) -> None:
        self._reports.forget(node, session)
        if self._sessions.disconnected(node, session):
            log.info("node disconnected node=%s", node)
        metrics.gauge("kedge_sessions", len(self._sessions))

    async def _within_limits(self, answer: Coroutine[None, None, None]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await answer
        except TimeoutError:
            log.warning("a join or request was not answered in %d s", ANSWER_SECONDS)
        finally:
            self._answers.release()

    async def _join(self, connection: int, path: str, body: bytes, peer: str) -> None:
        if path != JOIN_PATH:
            self._hub.respond_join(connection, 404, _problem("NotFound", f"no such path: {path}"))
            return
        try:
            answer = await self._joining.answer(body, peer)
        except KedgeError as error:
            log.exception("join failed peer=%s", peer)
            self._hub.respond_join(connection, 500, _problem(error.reason, str(error)))
            return
        self._hub.respond_join(connection, answer.status, answer.body)

    async def _leave(self, connection: int, node: str, uid: str, key_hash: str, peer: str) -> None:
        answer = await self._leaving.answer(node, uid, key_hash, peer)
        self._hub.respond_join(connection, answer.status, answer.body)

    async def _lookup(self, lookup: int, node: str, peer: str) -> None:
        answer = await self._lookups.answer(node, peer)
        self._hub.respond_join(lookup, answer.status, answer.body)

    async def _request(
        self, node: str, session: int, ticket: int, method: str, body: bytes
    ) -> None:
        status, answer = 200, b""
        try:
            if method == renewal.METHOD:
                current = self._sessions.get(node)
                if current is None or current.id != session:
                    raise Rejected(f"node {node}: its link has ended")
                answer = await self._renewals.renew(current, body)
            else:
                status, answer = 404, _problem("NotFound", f"unknown method: {method:.80}")
        except KedgeError as error:
            log.warning("request refused node=%s method=%s cause=%s", node, method, error)
            status = error.code if isinstance(error, ApiError) else 400
            status = 503 if error.retryable else status
            answer = _problem(error.reason, str(error))
        self._hub.respond(session, ticket, status, answer)


def _problem(reason: str, message: str) -> bytes:
    return json.dumps({"reason": reason, "message": message, "hint": ""}).encode()
