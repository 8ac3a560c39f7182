# SPDX-License-Identifier: Apache-2.0
"""ServiceAccount tokens for the pods of the nodes connected here.

Pods in the mirror say what they need (``token_needs``); the API mints it (TokenRequest, bound to the
pod); the mirror holds it as an object of kedge's own group, so that it goes down to the node in its
view like anything else. Tokens are renewed at 80 % of their life while the node is connected, and
at once when it comes back; they go when their pod goes. A lost mirror costs a round of requests.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import orjson

from kedge import aio, metrics
from kedge.aio import Backoff, KeyedQueue
from kedge.api.keys import ObjectKey
from kedge.cloud.token_needs import (
    GROUP,
    RENEW_AT,
    RESOURCE,
    STORAGE,
    Need,
    claim_of,
    needs_of,
    pod_of,
    wants_tokens,
)
from kedge.errors import Gone
from kedge.store import delete, put

if TYPE_CHECKING:
    from kedge.cloud.sessions import Sessions
    from kedge.kube import KubeClient
    from kedge.store import Store

log = logging.getLogger(__name__)

WORKERS = 16
MIN_WAIT_SECONDS = 1.0
_WATCHED = [
    ("", "pods"),
    (STORAGE, "csidrivers"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
]
"""What tokens depend on; each kind comes into the mirror by itself, in whatever order."""


class PodTokens:
    """Keeps tokens in the mirror for the pods that need them here.

    Args:
        client: the API.
        mirror: where pods are, and where tokens go.
        sessions: which nodes are connected here.
        renew_at: the part of a token's life after which it is renewed.
    """

    def __init__(
        self,
        client: KubeClient,
        mirror: Store,
        sessions: Sessions,
        *,
        renew_at: float = RENEW_AT,
    ) -> None:
        self._renew_at = renew_at
        self._client = client
        self._mirror = mirror
        self._sessions = sessions
        self._queue: KeyedQueue[ObjectKey] = KeyedQueue()
        self._held: dict[ObjectKey, set[ObjectKey]] = {}
        self._backoffs: dict[ObjectKey, Backoff] = {}

    def connected(self, node: str) -> None:
        """Looks at all pods of a node that is back."""
        for pod in self._mirror.list("", "pods", fields=f"spec.nodeName={node}").items:
            self._queue.add(pod.key)

    async def run(self) -> None:
        """Mints, renews and removes tokens until cancelled."""
        for token in self._mirror.list(GROUP, RESOURCE).items:
            self._hold(pod_of(token.key), token.key)
        for pod in list(self._held):
            self._queue.add(pod)
        await aio.run(
            self._follow(),
            self._queue.work(self._ensure, workers=WORKERS, failed=self._failed),
        )

    async def _follow(self) -> None:
        """Looks at each pod that changes; at all that count here whenever changes may be missed."""
        while True:
            watch = self._mirror.watch(_WATCHED)
            self._all_due()
            try:
                async for batch in watch:
                    for event in batch:
                        self._changed(event.key)
            except Gone:
                log.debug("the mirror's history is shorter than what happened meanwhile")
            finally:
                watch.close()

    def _changed(self, key: ObjectKey) -> None:
        if key.resource == "pods":
            self._queue.add(key)
        elif key.resource == "csidrivers":
            self._all_due()
        else:
            claim = claim_of(self._get(key)) if key.resource == "persistentvolumes" else key
            if claim is not None and wants_tokens(claim, self._get):
                for pod in self._mirror.list("", "pods", namespace=claim.namespace).items:
                    self._queue.add(pod.key)

    def _all_due(self) -> None:
        for session in self._sessions:
            self.connected(session.node)

    def _get(self, key: ObjectKey) -> dict[str, Any] | None:
        stored = self._mirror.get(key)
        return orjson.loads(stored.value) if stored else None

    async def _ensure(self, pod_key: ObjectKey) -> None:
        pod = self._get(pod_key)
        needs = needs_of(pod, self._get) if pod is not None else []
        await self._drop(pod_key, {need.key for need in needs})
        if pod is None or self._sessions.get(pod.get("spec", {}).get("nodeName", "")) is None:
            return
        due = [await self._provide(pod_key, need) for need in needs]
        self._backoffs.pop(pod_key, None)
        if due and not pod["metadata"].get("deletionTimestamp"):
            self._queue.add_after(pod_key, max(MIN_WAIT_SECONDS, min(due) - time.time()))

    async def _provide(self, pod_key: ObjectKey, need: Need) -> float:
        """Mints a token when the present one is due; when the next one is, in seconds since 1970."""
        present = self._get(need.key)
        due = need.renew_at(present, self._renew_at)
        if due > time.time():
            self._hold(pod_key, need.key)
            return due
        account = ObjectKey("", "serviceaccounts", need.namespace, need.service_account)
        answer = await self._client.create(account, need.request(), subresource="token")
        token = need.to_object(answer["status"])
        await self._mirror.commit([put(need.key, orjson.dumps(token))])
        self._hold(pod_key, need.key)
        metrics.count("kedge_pod_tokens_total")
        return need.renew_at(token, self._renew_at)

    async def _drop(self, pod_key: ObjectKey, wanted: set[ObjectKey]) -> None:
        superfluous = self._held.get(pod_key, set()) - wanted
        if superfluous:
            await self._mirror.commit([delete(key) for key in superfluous])
            self._held[pod_key] -= superfluous
        if not self._held.get(pod_key):
            self._held.pop(pod_key, None)

    def _hold(self, pod_key: ObjectKey, token: ObjectKey) -> None:
        self._held.setdefault(pod_key, set()).add(token)

    def _failed(self, pod_key: ObjectKey, error: Exception) -> None:
        backoff = self._backoffs.setdefault(pod_key, Backoff(0.2, 30.0))
        delay = backoff.next_seconds()
        log.warning("token not minted pod=%s/%s cause=%s", pod_key[2], pod_key[3], error)
        if self._mirror.get(pod_key) is None:
            del self._backoffs[pod_key]
        self._queue.add_after(pod_key, delay)
