# SPDX-License-Identifier: Apache-2.0
"""Node Leases: a node lives as long as its session with this replica does.

The Lease of each node in ``kube-node-lease`` is renewed at once when it connects and then every
``lease_seconds``, which spreads the writes as the connects were spread. A failed renewal is tried
again after a second. Nodes of other replicas are theirs.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

import orjson

from kedge import metrics
from kedge.aio import KeyedQueue
from kedge.api.keys import ObjectKey
from kedge.errors import NotFound
from kedge.kube import MERGE

if TYPE_CHECKING:
    from kedge.cloud.sessions import Sessions
    from kedge.kube import KubeClient
    from kedge.store import Store

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
HUB = "kedge.io/hub"
"""The annotation that says where the hub is that has the node's link."""
DURATION_SECONDS = 40
RETRY_SECONDS = 1.0
WORKERS = 16


class Leases:
    """Renews the Leases of the nodes connected here.

    Args:
        client: the API.
        mirror: where the Nodes' UIDs are.
        sessions: which nodes are connected here.
        every_seconds: how often.
        reached_at: where API servers reach this replica; said on every Lease that it renews.
    """

    def __init__(
        self,
        client: KubeClient,
        mirror: Store,
        sessions: Sessions,
        *,
        every_seconds: float,
        reached_at: str,
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._sessions = sessions
        self._every = every_seconds
        self._annotations = {HUB: reached_at}
        self._queue: KeyedQueue[str] = KeyedQueue()

    def connected(self, node: str) -> None:
        """Renews a node's Lease now, and from now on."""
        self._queue.add(node)

    async def run(self) -> None:
        """Renews Leases until cancelled."""
        await self._queue.work(self._renew, workers=WORKERS, failed=self._failed)

    async def _renew(self, node: str) -> None:
        if self._sessions.get(node) is None:
            return
        key = ObjectKey("coordination.k8s.io", "leases", NAMESPACE, node)
        now = dt.datetime.now(dt.UTC)
        try:
            change = {"metadata": {"annotations": self._annotations}, "spec": spec(node, now)}
            await self._client.patch(key, change, content_type=MERGE)
        except NotFound:
            lease = new_lease(node, self._uid(node), now)
            lease["metadata"]["annotations"] = self._annotations
            await self._client.create(key, lease)
        self._queue.add_after(node, self._every)

    def _uid(self, node: str) -> str:
        stored = self._mirror.get(ObjectKey("", "nodes", "", node))
        return str(orjson.loads(stored.value)["metadata"].get("uid", "")) if stored else ""

    def _failed(self, node: str, error: Exception) -> None:
        metrics.count("kedge_lease_failures_total")
        log.debug("lease not renewed node=%s cause=%s", node, error)
        self._queue.add_after(node, RETRY_SECONDS)


def spec(node: str, now: dt.datetime) -> dict[str, Any]:
    """The spec of a Lease renewed at ``now``."""
    return {
        "holderIdentity": node,
        "leaseDurationSeconds": DURATION_SECONDS,
        "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def new_lease(node: str, uid: str, now: dt.datetime) -> dict[str, Any]:
    """A Lease that goes with its Node when that is deleted."""
    metadata: dict[str, Any] = {"name": node, "namespace": NAMESPACE}
    if uid:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
        ]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec(node, now),
    }
