# SPDX-License-Identifier: Apache-2.0
"""Pods that nobody will clean up: on nodes that were deleted, and finished ones beyond a number.

A node out of reach is not deleted: its pods stay. Only when its Node object is gone, and has been
for a while, are the pods bound to it removed without waiting for anybody's word. Whoever counts
pods sees that they failed, and why; so he does of one that was deleted before it had a node, and of
one that its node let go without a word about how it ended.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.times import text_of
from kedge.errors import NotFound

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.conditions import Condition
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Node, Pod

TERMINATED_LIMIT = 12_500
ORPHAN_SECONDS = 40.0
WORD_SECONDS = 2.0
"""How long the last word of a pod's node may come after it has let the pod go."""
DISRUPTED = "DisruptionTarget"
_FINISHED = "\0finished"
"""The key of the work on finished pods; no node has that name."""


def surplus(finished: list[Pod], limit: int) -> list[Pod]:
    """The finished pods to remove: the oldest over the limit. Pure."""
    return sorted(finished, key=lambda pod: (pod.created, pod.name))[
        : max(len(finished) - limit, 0)
    ]


class PodGarbage:
    """The pod garbage collector.

    Args:
        client: writes.
        informer: reads.
        terminated_limit: finished pods kept.
        orphan_seconds: how long a Node must have been gone.
    """

    def __init__(
        self,
        client: Client,
        informer: Informer,
        *,
        terminated_limit: int = TERMINATED_LIMIT,
        orphan_seconds: float = ORPHAN_SECONDS,
    ) -> None:
        self._client = client
        self._informer = informer
        self._limit = terminated_limit
        self._orphan_seconds = orphan_seconds
        self._finished = 0
        self._work: Reconciler[str] = Reconciler(
            "pod garbage", self._reconcile, informer, workers=1
        )
        self._leaving: Reconciler[Key] = Reconciler("pods without a node", self._leave, informer)
        informer.nodes.watch(self._node_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work.run())
            group.create_task(self._leaving.run())

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None and old is not None:
            self._work.add_after(old.name, self._orphan_seconds)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        self._finished += int(new is not None and new.finished)
        self._finished -= int(old is not None and old.finished)
        if self._finished > self._limit:
            self._work.add(_FINISHED)
        if new is not None and _is_lost(new):
            self._leaving.add_after(new.key, WORD_SECONDS if new.node else 0.0)
        node = new.node if new is not None else ""
        if node and (old is None or not old.node) and self._informer.nodes.get("", node) is None:
            self._work.add_after(node, self._orphan_seconds)

    async def _reconcile(self, name: str) -> None:
        if name == _FINISHED:
            for pod in surplus(
                [each for each in self._informer.pods if each.finished], self._limit
            ):
                await self._remove(pod)
        elif self._informer.nodes.get("", name) is None:
            for pod in self._informer.pods.on_node(name):
                await self._fail(pod, _no_node(time.time()))
                await self._remove(pod)

    async def _leave(self, key: Key) -> None:
        pod = self._informer.pods.get(*key)
        if pod is not None and _is_lost(pod):
            await self._fail(pod, [])
            await self._remove(pod)

    async def _fail(self, pod: Pod, why: list[Condition]) -> None:
        """Says that a pod has failed, for those who keep it until they have counted it."""
        stored = self._client.get(ObjectKey("", "pods", *pod.key))
        if stored is None or stored["metadata"]["uid"] != pod.uid or pod.finished:
            return
        before = (stored.get("status") or {}).get("conditions")
        others = [each for each in before or () if each["type"] != DISRUPTED] if why else before
        status: dict[str, Any] = {"phase": "Failed"}
        if why:
            status["conditions"] = [*(others or ()), *why]
        with suppress(NotFound):
            key = ObjectKey("", "pods", *pod.key)
            await self._client.patch_status(key, status, uid=pod.uid)

    async def _remove(self, pod: Pod) -> None:
        await self._client.delete(ObjectKey("", "pods", *pod.key), uid=pod.uid, grace_seconds=0)


def _is_lost(pod: Pod) -> bool:
    """Whether a pod goes away and nobody will say how it ended, though somebody waits for it."""
    if not pod.deleted or pod.finished:
        return False
    return not pod.node or (pod.job is not None and pod.job.tracked and pod.job.is_gone)


def _no_node(now: float) -> list[Condition]:
    return [
        {
            "type": DISRUPTED,
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": text_of(now),
        }
    ]
