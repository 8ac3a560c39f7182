# SPDX-License-Identifier: Apache-2.0
"""The controllers and the scheduler, with test kubelets, in one process and without sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers import Config, all_controllers
from kedge.cluster.machinery.client import Client
from kedge.cluster.machinery.informer import Informer
from kedge.cluster.scheduler import Scheduler
from kedge.errors import NotFound
from tests.fakes.kubelet import TestKubelet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MERGE = "application/merge-patch+json"
RESOURCES = {
    "deployments": "apps",
    "replicasets": "apps",
    "daemonsets": "apps",
    "statefulsets": "apps",
    "controllerrevisions": "apps",
    "leases": "coordination.k8s.io",
    "storageclasses": "storage.k8s.io",
    "csidrivers": "storage.k8s.io",
    "endpointslices": "discovery.k8s.io",
    "volumeattachments": "storage.k8s.io",
}
CLUSTER_SCOPED = {
    "nodes", "namespaces", "persistentvolumes", "storageclasses", "csidrivers", "volumeattachments",
}  # fmt: skip


def key(resource: str, name: str = "", namespace: str = "default") -> ObjectKey:
    """The key of an object by its resource."""
    cluster_scoped = resource in CLUSTER_SCOPED
    return ObjectKey(
        RESOURCES.get(resource, ""), resource, "" if cluster_scoped else namespace, name
    )


class ControlPlane:
    """What a test drives and looks at."""

    def __init__(self, store: Any, registry: Any) -> None:
        self.store, self.registry = store, registry
        self.informer = Informer(store)
        self.client = Client(registry, self.informer)
        self.kubelets: dict[str, TestKubelet] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, group: asyncio.TaskGroup, config: Config) -> None:
        self._group = group
        self.spawn(self.store)
        self.spawn(self.informer)
        for component in all_controllers(self.client, self.informer, config):
            self.spawn(component)
        self.spawn(Scheduler(self.client, self.informer))

    def spawn(self, component: Any) -> None:
        assert self._group is not None
        self._tasks.append(self._group.create_task(component.run()))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def node(
        self, name: str, *, labels: dict[str, str] | None = None, **allocatable: str
    ) -> TestKubelet:
        kubelet = TestKubelet(self.registry, self.informer, name, **allocatable)
        self.spawn(kubelet)
        await kubelet.register(labels=labels or {})
        self.kubelets[name] = kubelet
        return kubelet

    async def namespace(self, name: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        await self.registry.create(key("namespaces", name), body)
        await self.until(lambda: self.get("serviceaccounts", "default", name) is not None)

    async def deploy(
        self, name: str = "web", replicas: int = 3, image: str = "v1", **spec: Any
    ) -> None:
        await self.workload("Deployment", name, image, replicas=replicas, **spec)

    async def workload(
        self,
        kind: str,
        name: str,
        image: str = "v1",
        *,
        pod: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        labels = {"app": name}
        containers = [{"name": "c", "image": image}]
        body = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": containers, **(pod or {})},
                },
                **spec,
            },
        }
        await self.registry.create(key(f"{kind.lower()}s", name), body)

    async def set_image(self, resource: str, name: str, image: str) -> None:
        containers = [{"name": "c", "image": image}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        await self.registry.patch(key(resource, name), patch, MERGE)

    def get(self, resource: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.registry.get(key(resource, name, namespace))
        except NotFound:
            return None
        return found

    def all(self, resource: str, namespace: str = "") -> list[dict[str, Any]]:
        page = self.store.list(RESOURCES.get(resource, ""), resource, namespace=namespace)
        found = [self.get(resource, item.key.name, item.key.namespace) for item in page.items]
        return [each for each in found if each is not None]

    def ready(self, *, image: str = "", node: str = "") -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.all("pods")
            if not pod["metadata"].get("deletionTimestamp")
            and image in {"", pod["spec"]["containers"][0].get("image")}
            and node in {"", pod["spec"].get("nodeName")}
            and any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in (pod.get("status") or {}).get("conditions") or []
            )
        ]

    async def until(self, holds: Callable[[], object], seconds: float = 5.0) -> None:
        """Waits until ``holds`` is true."""
        async with asyncio.timeout(seconds):
            while not holds():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    async def settled(self, quiet: int = 8) -> None:
        """Waits until nothing has been written for some turns."""
        last, same = -1, 0
        while same < quiet:
            same = same + 1 if self.store.revision == last else 0
            last = self.store.revision
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(
    store: Any, registry: Any, config: Config | None = None
) -> AsyncIterator[ControlPlane]:
    """A control plane with namespaces ``default`` and ``kube-node-lease``."""
    plane = ControlPlane(store, registry)
    async with asyncio.TaskGroup() as group:
        plane.start(group, config or Config(ca_pem="CA"))
        try:
            for name in ("default", "kube-node-lease"):
                await plane.namespace(name)
            yield plane
        finally:
            plane.stop()
