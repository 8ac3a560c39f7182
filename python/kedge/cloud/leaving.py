# SPDX-License-Identifier: Apache-2.0
"""``POST /v1/leave``: a node that is removed from its machine takes its Node along (``kedge reset``).

A node may delete its own Node and no other (Kubernetes' NodeRestriction allows the same): which one
that is, its certificate says, and the request has no names. What the certificate is held against is read
from the API, and deleted only if it is still that object. A Node that is gone already is success, so
an interrupted reset may ask again. Lease, link and view go with the Node, as with ``kubectl delete node``.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

from kedge import metrics
from kedge.api.keys import ObjectKey
from kedge.cloud import names
from kedge.cloud.joining import AWAY, Answer
from kedge.cloud.rates import Rates
from kedge.errors import Conflict, Forbidden, NotFound, Rejected

if TYPE_CHECKING:
    from kedge.kube import KubeClient

log = logging.getLogger(__name__)

PER_MINUTE = 10
ATTEMPTS = 8
"""A Node's status changes all the time."""


class Leaving:
    """Deletes the Nodes of nodes that ask for it.

    Args:
        client: the API.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._rates = Rates(PER_MINUTE)

    async def answer(self, node: str, uid: str, key_hash: str, peer: str) -> Answer:
        """Deletes the Node of a certificate: 200, or why not.

        Args:
            node: the name in it.
            uid: of the Node that it is for.
            key_hash: of its public key.
            peer: where it comes from.
        """
        answer = await self._leave(node, uid, key_hash)
        metrics.count("kedge_leaves_total", status=str(answer.status))
        log.info("node asks to leave node=%s peer=%s status=%d", node, peer, answer.status)
        return answer

    async def _leave(self, node: str, uid: str, key_hash: str) -> Answer:
        if not self._rates.allow(node, time.time()):
            return _answer(503, "TooManyRequests", "it has come too often lately")
        try:
            for _attempt in range(ATTEMPTS):
                if await self._delete(node, uid, key_hash):
                    return Answer(200, json.dumps({"node": node}).encode())
        except Rejected as refusal:
            return _answer(403, refusal.reason, str(refusal))
        except Forbidden as refusal:
            return _answer(403, refusal.reason, f"the cloud may not delete Nodes: {refusal}")
        except AWAY as error:
            return _answer(503, "Unavailable", f"the Kubernetes API does not do it: {error}")
        return _answer(503, "Conflict", f"node {node}: its Node changes all the time")

    async def _delete(self, node: str, uid: str, key_hash: str) -> bool:
        """Whether it is gone; if not, it changed under us, perhaps to another key."""
        key = ObjectKey("", "nodes", "", node)
        try:
            found = await self._client.get(key)
            if names.may_leave(node, uid, key_hash, found):
                version = found["metadata"]["resourceVersion"]
                options = {"preconditions": {"uid": uid, "resourceVersion": version}}
                await self._client.delete(key, options)
        except NotFound:
            return True
        except Conflict:
            return False
        return True


def _answer(status: int, reason: str, message: str) -> Answer:
    return Answer(status, json.dumps({"reason": reason, "message": message}).encode())
