# SPDX-License-Identifier: Apache-2.0
"""The API server's certificate for hubs: with it, and only so, it reaches nodes through their links.

It is signed with the authority that the cloud keeps in a Secret, which the embedded cluster has in
its own store; renewed at half its life, and again when that authority is replaced.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from typing import TYPE_CHECKING

import orjson

from kedge.aio import run
from kedge.api.keys import ObjectKey
from kedge.errors import CertificateError, Gone
from kedge.hub import certificates, tokens

if TYPE_CHECKING:
    from kedge.cluster.apiserver.server import Server
    from kedge.store import Store

log = logging.getLogger(__name__)

ORGANIZATION = "kedge:api-servers"
"""The group whose members a hub lets through to nodes."""
SERVER_NAME = "kedge-hub"
"""The name in every hub's certificate."""
DAYS = 7
CHECK_SECONDS = 3600.0
_SECRET = ObjectKey("", "secrets", tokens.NAMESPACE, tokens.CA_SECRET)


class NodeAccess:
    """Keeps the server's certificate for hubs.

    Args:
        store: where the authority's Secret is, once there is a cloud.
        server: who reaches nodes.
    """

    def __init__(self, store: Store, server: Server) -> None:
        self._store = store
        self._server = server
        self._authority = b""
        self._renew_at = 0.0

    async def run(self) -> None:
        """Follows the Secret, and renews, until cancelled."""
        await run(self._follow(), self._renew())

    async def _follow(self) -> None:
        while True:
            watch = self._store.watch([("", "secrets")], namespace=tokens.NAMESPACE)
            try:
                self.refresh()
                async for _ in watch:
                    self.refresh()
            except Gone:
                log.debug("the watch of the authority fell behind: reading it again")
            finally:
                watch.close()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.refresh()

    def refresh(self) -> None:
        """Makes a certificate if the authority is another one, or the last is half over."""
        stored = self._store.get(_SECRET)
        if stored is None or (stored.value == self._authority and time.time() < self._renew_at):
            return
        try:
            data = orjson.loads(stored.value).get("data") or {}
            ca = certificates.Pair(*(_decode(data, name) for name in ("tls.crt", "tls.key")))
            own = certificates.issue(
                ca,
                common_name="kedge-api-server",
                organizations=[ORGANIZATION],
                days=DAYS,
                client=True,
            )
        except CertificateError as error:
            log.error("nodes cannot be reached: %s", error)  # noqa: TRY400 - no defect
            return
        self._server.set_nodes(own, ca.certificate, SERVER_NAME)
        self._authority = stored.value
        self._renew_at = certificates.inspect(own.certificate).renew_at()


def _decode(data: dict[str, str], name: str) -> str:
    try:
        return base64.b64decode(data[name], validate=True).decode()
    except (KeyError, ValueError) as error:
        where = f"secret {_SECRET.namespace}/{_SECRET.name}"
        raise CertificateError(f"{where}: wanted a base64 entry {name}, got: {error!r}") from error
