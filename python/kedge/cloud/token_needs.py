# SPDX-License-Identifier: Apache-2.0
"""Which ServiceAccount tokens a pod needs, and what a minted one looks like in the store. Pure.

A need is an audience and a life time, from the pod's projected volumes and from the CSI drivers of its
volumes; several with the same share a token. The object's name is the pod's and a hash of the need, so that it can be found from
either side.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "kedge.io"
RESOURCE = "serviceaccounttokens"
DEFAULT_SECONDS = 3600
STORAGE = "storage.k8s.io"
MAX_TOKENS = 16
"""Of one driver, as many as its nodes pass on."""
RENEW_AT = 0.8
"""The part of a token's life after which it is renewed."""


Get = Callable[[ObjectKey], dict[str, Any] | None]


def _nothing(_key: ObjectKey) -> None:
    return None


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


def needs_of(pod: dict[str, Any], get: Get = _nothing) -> list[Need]:
    """The tokens that a pod needs; none once it has ended.

    Args:
        pod: the pod.
        get: an object that its volumes lead to, or None.
    """
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return []
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    account = spec.get("serviceAccountName") or "default"
    found: dict[Need, None] = {}
    for wanted in [*_projected(spec), *_of_drivers(pod, get)]:
        need = Need(
            metadata["name"],
            metadata["namespace"],
            metadata.get("uid", ""),
            account,
            wanted.get("audience") or "",
            int(wanted.get("expirationSeconds") or DEFAULT_SECONDS),
        )
        found[need] = None
    return list(found)


def _projected(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for volume in spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            token = source.get("serviceAccountToken")
            if token is not None:
                yield token


def _of_drivers(pod: dict[str, Any], get: Get) -> Iterator[dict[str, Any]]:
    """What CSIDrivers want for the volumes of a pod."""
    names = {_driver(pod, volume, get) for volume in (pod.get("spec") or {}).get("volumes") or []}
    for name in sorted(names - {""}):
        yield from _requests(name, get)


def claim_of(volume: dict[str, Any] | None) -> ObjectKey | None:
    """The claim that a PersistentVolume is for, if there is one."""
    claim = ((volume or {}).get("spec") or {}).get("claimRef")
    if not claim:
        return None
    return ObjectKey(
        "", "persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", "")
    )


def wants_tokens(claim: ObjectKey, get: Get) -> bool:
    """Whether a claim's volume has a driver that wants tokens of the claim's pods."""
    driver = _bound_driver(claim, get)
    return bool(driver) and bool(_requests(driver, get))


def _requests(driver: str, get: Get) -> list[dict[str, Any]]:
    about = get(ObjectKey(STORAGE, "csidrivers", "", driver)) or {}
    requests: list[dict[str, Any]] = (about.get("spec") or {}).get("tokenRequests") or []
    return requests[:MAX_TOKENS]


def _driver(pod: dict[str, Any], volume: dict[str, Any], get: Get) -> str:
    """The CSI driver of a pod's volume; empty for others, and while its claim is not bound."""
    if "csi" in volume:
        return str(volume["csi"].get("driver") or "")
    name = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
    if "ephemeral" in volume:
        name = f"{pod['metadata']['name']}-{volume['name']}"
    if not name:
        return ""
    claim = ObjectKey("", "persistentvolumeclaims", pod["metadata"]["namespace"], name)
    return _bound_driver(claim, get)


def _bound_driver(claim: ObjectKey, get: Get) -> str:
    bound = ((get(claim) or {}).get("spec") or {}).get("volumeName") or ""
    found = get(ObjectKey("", "persistentvolumes", "", bound)) if bound else None
    return str((((found or {}).get("spec") or {}).get("csi") or {}).get("driver") or "")


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
