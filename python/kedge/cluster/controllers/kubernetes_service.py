# SPDX-License-Identifier: Apache-2.0
"""The ``kubernetes`` Service of the namespace ``default`` leads to this API server.

It selects no pods: the server itself keeps its Endpoints and the slice of the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import services
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key
    from kedge.cluster.machinery.services import Endpoints, Service, Slice

Object = dict[str, Any]

KEY = ("default", "kubernetes")
PORT = "https"


def endpoints_of(address: str, port: int) -> Object:
    """The Endpoints object. Pure."""
    ports = [{"name": PORT, "port": port, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": KEY[1],
            "namespace": KEY[0],
            "labels": {services.SKIP_MIRROR: "true"},
        },
        "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
    }


def slice_of(address: str, port: int) -> Object:
    """The EndpointSlice. Pure."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": KEY[1],
            "namespace": KEY[0],
            "labels": {services.SERVICE_NAME: KEY[1]},
        },
        "addressType": services.family_of(address),
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": PORT, "port": port, "protocol": "TCP"}],
    }


class KubernetesService:
    """Keeps what the ``kubernetes`` Service leads to.

    Args:
        client: writes.
        informer: reads.
        address: where pods reach the API server.
        port: and at which port.
    """

    def __init__(self, client: Client, informer: Informer, address: str, port: int) -> None:
        self._client = client
        self._wanted = {
            ObjectKey("", "endpoints", *KEY): endpoints_of(address, port),
            ObjectKey(services.GROUP, services.SLICES, *KEY): slice_of(address, port),
        }
        self._work: Reconciler[Key] = Reconciler(
            "kubernetes service", self._reconcile, informer, workers=1
        )
        informer.services.watch(self._changed)
        informer.endpoints.watch(self._changed)
        informer.slices.watch(self._changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _changed(
        self,
        old: Service | Endpoints | Slice | None,
        new: Service | Endpoints | Slice | None,
    ) -> None:
        one = new or old
        if one is not None and one.key == KEY:
            self._work.add(KEY)

    async def _reconcile(self, _: Key) -> None:
        if self._client.get(ObjectKey("", "services", *KEY)) is None:
            return
        for key, body in self._wanted.items():
            await self._keep(key, body)

    async def _keep(self, key: ObjectKey, body: Object) -> None:
        old = self._client.get(key)
        if old is None:
            await self._client.create(key, body)
            return
        if old.get("addressType", "") != body.get("addressType", ""):
            await self._client.delete(key, uid=old["metadata"]["uid"])
            await self._client.create(key, body)
            return
        labels = old["metadata"].get("labels") or {}
        wanted = {**labels, **body["metadata"]["labels"]}
        parts = [name for name in body if name not in ("apiVersion", "kind", "metadata")]
        if labels == wanted and all(old.get(name) == body[name] for name in parts):
            return
        await self._client.update(key, {**body, "metadata": {**old["metadata"], "labels": wanted}})
