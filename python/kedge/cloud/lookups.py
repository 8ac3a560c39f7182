# SPDX-License-Identifier: Apache-2.0
"""What the API says of a Node, for a certificate that does not fit what the mirror says.

The mirror can be a moment behind: a node that joined through another replica connects before its
Node is here. So the hub refuses nobody before the API has been asked, and nobody for good while it
does not answer. Who is refused comes back again and again, so each node's lookups are limited. What
the certificate is held against is in the hub (``hub/admission.rs``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import orjson

from kedge import metrics
from kedge.api.keys import ObjectKey
from kedge.cloud.joining import AWAY, Answer
from kedge.cloud.rates import Rates
from kedge.errors import NotFound

if TYPE_CHECKING:
    from kedge.kube import KubeClient

log = logging.getLogger(__name__)

PER_MINUTE = 60
SECONDS = 3.0
"""How long the API may take; the hub holds one of its handshakes for it."""


class Lookups:
    """Reads Nodes from the API.

    Args:
        client: the API.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._rates = Rates(PER_MINUTE)

    async def answer(self, node: str, peer: str) -> Answer:
        """The Node (200), that there is none (404), or why nobody can say now (503).

        Args:
            node: the name in a certificate.
            peer: where it comes from.
        """
        if not self._rates.allow(node, time.time()):
            return Answer(503, b"it has come too often lately")
        metrics.count("kedge_node_lookups_total")
        log.info("certificate does not fit the mirrored Node node=%s peer=%s", node, peer)
        try:
            async with asyncio.timeout(SECONDS):
                found = await self._client.get(ObjectKey("", "nodes", "", node))
        except NotFound:
            return Answer(404, b"")
        except (*AWAY, TimeoutError):
            return Answer(503, b"the Kubernetes API does not answer")
        return Answer(200, orjson.dumps(found))
