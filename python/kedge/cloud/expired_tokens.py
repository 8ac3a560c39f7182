# SPDX-License-Identifier: Apache-2.0
"""Removes the Secrets of join tokens some time after they expired. Every replica does; none minds."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.errors import Invalid, KedgeError, NotFound
from kedge.hub import tokens

if TYPE_CHECKING:
    from kedge.kube import KubeClient

log = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
KEPT_SECONDS = 3600.0
"""How long an expired token is still told from a revoked one, and listed."""


class ExpiredTokens:
    """Sweeps now and then.

    Args:
        client: the API.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.sweep(time.time())
            except KedgeError as error:
                log.debug("expired join tokens not swept: %s", error)

    async def sweep(self, now: float) -> None:
        """Deletes what expired long enough before ``now``."""
        found = await self._client.list("", "secrets", tokens.NAMESPACE, labels=tokens.LABEL)
        for secret in found:
            try:
                grant = tokens.from_secret(secret)
            except Invalid:
                continue
            if grant.expires + KEPT_SECONDS > now:
                continue
            name = secret["metadata"]["name"]
            try:
                await self._client.delete(ObjectKey("", "secrets", tokens.NAMESPACE, name))
            except NotFound:
                continue
            log.info("expired join token removed token=%s", grant.id)
