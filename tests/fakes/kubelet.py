# SPDX-License-Identifier: Apache-2.0
"""A kubelet without containers: pods on its node run and are ready at once, deleted ones go.

It acts through the registry on what the informer shows. ``away`` stops it in every respect, as a cut
link does; what it does not say is not known.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.times import micro_text_of, text_of
from kedge.errors import Conflict, NotFound

if TYPE_CHECKING:
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Pod

MERGE = "application/merge-patch+json"


class TestKubelet:
    """One node."""

    __test__ = False

    def __init__(self, registry: Any, informer: Informer, name: str, **allocatable: str) -> None:
        self._registry, self._informer, self.name = registry, informer, name
        self._allocatable = {"cpu": "8", "memory": "16Gi", "pods": "110", **allocatable}
        self._due: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.away = False
        self.broken_images: set[str] = set()
        self.started: list[str] = []
        informer.pods.watch(self._changed)

    async def register(self, **metadata: Any) -> None:
        """Creates the Node, and says that it is Ready."""
        labels = {"kubernetes.io/hostname": self.name, **metadata.pop("labels", {})}
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels, **metadata},
            "spec": {},
            "status": {"capacity": self._allocatable, "allocatable": self._allocatable},
        }
        await self._registry.create(ObjectKey("", "nodes", "", self.name), body)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40},
        }
        await self._registry.create(self._lease, lease)
        await self.report()
        await self.renew()

    @property
    def _lease(self) -> ObjectKey:
        return ObjectKey("coordination.k8s.io", "leases", "kube-node-lease", self.name)

    async def renew(self) -> None:
        """Renews the Lease."""
        await self._registry.patch(
            self._lease, {"spec": {"renewTime": micro_text_of(time.time())}}, MERGE
        )

    async def report(self) -> None:
        """Reports the node's own condition."""
        now = text_of(time.time())
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        key = ObjectKey("", "nodes", "", self.name)
        await self._registry.patch(
            key, {"status": {"conditions": [ready]}}, MERGE, subresource="status"
        )

    async def come_back(self) -> None:
        """The link is there again: the lease is renewed, and what waited is done."""
        self.away = False
        await self.report()
        await self.renew()
        for pod in self._informer.pods.on_node(self.name):
            self._due.put_nowait(pod.key)

    async def run(self) -> None:
        """Serves its pods until cancelled."""
        while True:
            key = await self._due.get()
            pod = self._informer.pods.get(*key)
            if pod is None or self.away:
                continue
            try:
                await self._serve(pod)
            except (Conflict, NotFound):
                await asyncio.sleep(0)  # the informer has to see what was written meanwhile
                self._due.put_nowait(key)

    def _changed(self, _old: Pod | None, new: Pod | None) -> None:
        if new is not None and new.node == self.name:
            self._due.put_nowait(new.key)

    async def _serve(self, pod: Pod) -> None:
        key = ObjectKey("", "pods", *pod.key)
        if pod.deleted:
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
            await self._registry.delete(key, options)
            return
        stored = self._registry.get(key)
        image = stored["spec"]["containers"][0].get("image", "")
        if pod.ready or pod.ready_reason or pod.finished or image in self.broken_images:
            return
        self.started.append(pod.uid)
        now = text_of(time.time())
        others = [c for c in stored["status"].get("conditions") or [] if c["type"] != "Ready"]
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        address = f"10.244.{len(self.started) // 250}.{len(self.started) % 250 + 1}"
        status = {
            "phase": "Running",
            "conditions": [*others, ready],
            "podIP": address,
            "podIPs": [{"ip": address}],
        }
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        await self._registry.patch(key, patch, MERGE, subresource="status")
