# SPDX-License-Identifier: Apache-2.0
"""Which ServiceAccount tokens a pod needs, and what a minted one looks like in the store. Pure.

A need is an audience and a life time, from the pod's projected volumes; several volumes with the same
share a token. The object's name is the pod's and a hash of the need, so that it can be found from
either side.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

from kedge.api.keys import ObjectKey

GROUP = "kedge.io"
RESOURCE = "serviceaccounttokens"
DEFAULT_SECONDS = 3600
RENEW_AT = 0.8
"""The part of a token's life after which it is renewed."""


@dataclass(frozen=True, slots=True)
class Need:
    """One token that a pod needs.

    Attributes:
        pod: its name.
        namespace: of the pod and the ServiceAccount.
        uid: of the pod; the token is bound to it.
        service_account: who the pod is.
        audience: for whom; empty for the API server.
        seconds: how long it should hold.
    """

    pod: str
    namespace: str
    uid: str
    service_account: str
    audience: str
    seconds: int

    @property
    def key(self) -> ObjectKey:
        """Where the token is kept."""
        digest = hashlib.sha256(f"{self.audience}\0{self.seconds}".encode()).hexdigest()[:12]
        return ObjectKey(GROUP, RESOURCE, self.namespace, f"{self.pod}.{digest}")

    def request(self) -> dict[str, Any]:
        """The TokenRequest that asks for it."""
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [self.audience] if self.audience else [],
                "expirationSeconds": self.seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": self.pod,
                    "uid": self.uid,
                },
            },
        }

    def to_object(self, status: dict[str, Any]) -> dict[str, Any]:
        """What is stored, from the status that the API answered."""
        return {
            "apiVersion": "kedge.io/v1",
            "kind": "ServiceAccountToken",
            "metadata": {"name": self.key.name, "namespace": self.namespace},
            "spec": {
                "podUID": self.uid,
                "audience": self.audience,
                "expirationSeconds": self.seconds,
            },
            "status": {
                "token": status["token"],
                "expirationTimestamp": status["expirationTimestamp"],
            },
        }

    def renew_at(self, stored: dict[str, Any] | None, part: float = RENEW_AT) -> float:
        """When the stored token is due, in seconds since 1970; zero when it is of no use."""
        if stored is None or stored.get("spec", {}).get("podUID") != self.uid:
            return 0.0
        return expiry(stored) - (1 - part) * self.seconds


def needs_of(pod: dict[str, Any]) -> list[Need]:
    """The tokens that a pod needs; none once it has ended."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return []
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    account = spec.get("serviceAccountName") or "default"
    found: dict[Need, None] = {}
    for volume in spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            token = source.get("serviceAccountToken")
            if token is None:
                continue
            seconds = int(token.get("expirationSeconds") or DEFAULT_SECONDS)
            need = Need(
                metadata["name"],
                metadata["namespace"],
                metadata.get("uid", ""),
                account,
                token.get("audience") or "",
                seconds,
            )
            found[need] = None
    return list(found)


def expiry(stored: dict[str, Any]) -> float:
    """When a stored token expires, in seconds since 1970; zero when it does not say."""
    text = stored.get("status", {}).get("expirationTimestamp")
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def pod_of(token: ObjectKey) -> ObjectKey:
    """The pod that a token's name says it is for."""
    return ObjectKey("", "pods", token.namespace, token.name.rpartition(".")[0])
