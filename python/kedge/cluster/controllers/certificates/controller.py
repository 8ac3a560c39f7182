# SPDX-License-Identifier: Apache-2.0
"""Takes each CertificateSigningRequest a step further whenever it has changed, and when its time is over."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.access import About, User
from kedge.cluster.controllers.certificates import plan
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.times import text_of
from kedge.hub import certificates

if TYPE_CHECKING:
    from kedge.cluster.apiserver.access import Access
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.named import Named

Object = dict[str, Any]

GROUP, RESOURCE = "certificates.k8s.io", "certificatesigningrequests"


class Certificates:
    """Approves, signs and removes.

    Args:
        client: writes.
        informer: reads.
        access: who may have a node's certificate without being asked.
        authority: signs; the one of the API server's clients.
    """

    def __init__(
        self, client: Client, informer: Informer, access: Access, authority: certificates.Pair
    ) -> None:
        self._client = client
        self._access = access
        self._authority = authority
        self._work: Reconciler[str] = Reconciler("certificates", self._reconcile, informer)
        informer.signing_requests.watch(self._changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _changed(self, _old: Named | None, new: Named | None) -> None:
        if new is not None:
            self._work.add(new.name)

    async def _reconcile(self, name: str) -> float | None:
        key = ObjectKey(GROUP, RESOURCE, "", name)
        csr = self._client.get(key)
        if csr is None:
            return None
        now = time.time()
        match plan.decide(csr, lambda right: self._may(csr, right), now):
            case plan.Wait(seconds):
                return seconds
            case plan.Remove():
                await self._client.delete(key, uid=csr["metadata"]["uid"])
            case plan.Approve(message):
                condition = _condition("Approved", "AutoApproved", message, now)
                await self._add(key, csr, condition, "approval")
            case plan.Fail(message):
                condition = _condition("Failed", "SignerValidationFailure", message, now)
                await self._add(key, csr, condition, "status")
            case plan.Sign() as wanted:
                await self._sign(key, csr, wanted)
        return None

    def _may(self, csr: Object, right: str) -> bool:
        spec = csr["spec"]
        who = User(spec.get("username", ""), tuple(spec.get("groups") or ()))
        return self._access.allows(who, "create", About(GROUP, RESOURCE, right))

    async def _add(self, key: ObjectKey, csr: Object, condition: Object, part: str) -> None:
        conditions = [*((csr.get("status") or {}).get("conditions") or ()), condition]
        version = {"resourceVersion": csr["metadata"]["resourceVersion"]}
        patch = {"metadata": version, "status": {"conditions": conditions}}
        await self._client.patch(key, patch, subresource=part)

    async def _sign(self, key: ObjectKey, csr: Object, wanted: plan.Sign) -> None:
        certificate = certificates.sign_csr(
            self._authority,
            base64.b64decode(csr["spec"]["request"]).decode("latin-1"),
            common_name=wanted.common_name,
            organizations=wanted.organizations,
            days=wanted.days,
        )
        text = base64.b64encode(certificate.encode()).decode()
        version = csr["metadata"]["resourceVersion"]
        await self._client.patch_status(key, {"certificate": text}, version=version)


def _condition(kind: str, reason: str, message: str, now: float) -> Object:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    return {**condition, "lastUpdateTime": text_of(now)}
