# SPDX-License-Identifier: Apache-2.0
"""What every namespace has: the ServiceAccount ``default`` and the ConfigMap ``kube-root-ca.crt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.errors import AlreadyExists

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Namespace
    from kedge.cluster.machinery.wire import Object
    from kedge.store import Event

ROOT_CA = "kube-root-ca.crt"
_ANNOTATION = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the API server."
}


class ServiceAccounts:
    """Creates and repairs both in each namespace.

    Args:
        client: writes.
        informer: reads.
        ca_pem: the certificate authority of the API server.
    """

    def __init__(self, client: Client, informer: Informer, ca_pem: str) -> None:
        self._client = client
        self._informer = informer
        self._ca_pem = ca_pem
        self._work: Reconciler[str] = Reconciler("serviceaccounts", self._reconcile, informer)
        informer.namespaces.watch(self._namespace_changed)
        informer.on_event(self._event)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and (old is None or old.deleted != new.deleted):
            self._work.add(new.name)

    def _event(self, event: Event) -> None:
        key = event.key
        deleted_account = event.type == "DELETE" and key.resource == "serviceaccounts"
        changed_bundle = key.resource == "configmaps" and key.name == ROOT_CA
        if key.group == "" and (changed_bundle or (deleted_account and key.name == "default")):
            self._work.add(key.namespace)

    async def _reconcile(self, name: str) -> None:
        namespace = self._informer.namespaces.get("", name)
        if namespace is None or namespace.deleted:
            return
        await self._ensure_account(name)
        await self._ensure_bundle(name)

    async def _ensure_account(self, namespace: str) -> None:
        key = ObjectKey("", "serviceaccounts", namespace, "default")
        if self._client.get(key) is None:
            body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(key)}
            await self._create(key, body)

    async def _ensure_bundle(self, namespace: str) -> None:
        key = ObjectKey("", "configmaps", namespace, ROOT_CA)
        data = {"ca.crt": self._ca_pem}
        stored = self._client.get(key)
        if stored is None:
            metadata = {**_metadata(key), "annotations": _ANNOTATION}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._create(key, body)
        elif stored.get("data") != data:
            extra = dict.fromkeys(stored.get("data") or {})
            await self._client.patch(key, {"data": {**extra, **data}})

    async def _create(self, key: ObjectKey, body: Object) -> None:
        try:
            await self._client.create(key, body)
        except AlreadyExists:
            return


def _metadata(key: ObjectKey) -> dict[str, object]:
    return {"name": key.name, "namespace": key.namespace}
