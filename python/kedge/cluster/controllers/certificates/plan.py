# SPDX-License-Identifier: Apache-2.0
"""What becomes of a CertificateSigningRequest, from what it is and the time. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api import certificate_requests
from kedge.cluster.controllers.certificates import rules
from kedge.cluster.machinery.times import seconds_of
from kedge.errors import CertificateError
from kedge.hub import certificates

if TYPE_CHECKING:
    from kedge.api.certificate_requests import CertificateRequest

Object = dict[str, Any]
Right = Callable[[str], bool]

KEPT_SECONDS = 3600.0
"""How long a request stays that is issued, denied or failed."""
PENDING_SECONDS = 24 * 3600.0
"""How long one stays that nobody has decided."""
MAX_DAYS = 365
"""The longest life of a certificate, and that of one whose request says nothing."""


@dataclass(frozen=True, slots=True)
class Approve:
    """It is a node's, whose right to it is known."""

    message: str


@dataclass(frozen=True, slots=True)
class Fail:
    """It is approved, and cannot be signed."""

    message: str


@dataclass(frozen=True, slots=True)
class Sign:
    """It is approved."""

    common_name: str
    organizations: tuple[str, ...]
    days: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Nobody needs it any more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing for now; 0 seconds is until it changes."""

    seconds: float = 0.0


Step = Approve | Fail | Sign | Remove | Wait


def decide(csr: Object, has_right: Right, now: float) -> Step:
    """The next step.

    Args:
        csr: the object.
        has_right: whether its requester may create the named subresource of requests.
        now: epoch seconds.
    """
    deadline = _deadline(csr)
    if deadline and deadline < now:
        return Remove()
    step = _approve(csr, has_right) or _sign(csr)
    return step or Wait(deadline - now + 1.0 if deadline else 0.0)


def _deadline(csr: Object) -> float:
    """When the object is to go; 0 is never, as of one that is approved and waits for its signer."""
    status = csr.get("status") or {}
    conditions = status.get("conditions") or []
    if not conditions:
        made = seconds_of(csr["metadata"].get("creationTimestamp"))
        return made + PENDING_SECONDS if made else 0.0
    issued = status.get("certificate")
    ends = [
        seconds_of(one.get("lastUpdateTime")) + KEPT_SECONDS
        for one in conditions
        if one.get("lastUpdateTime")
        and (one["type"] in ("Denied", "Failed") or (one["type"] == "Approved" and issued))
    ]
    if issued and _has(csr, "Approved"):
        ends += _expiry(issued)
    return min(ends, default=0.0)


def _expiry(issued: str) -> list[float]:
    try:
        return [certificates.inspect(base64.b64decode(issued).decode("latin-1")).not_after]
    except CertificateError:
        return []


def _has(csr: Object, kind: str) -> bool:
    conditions = (csr.get("status") or {}).get("conditions") or []
    return any(one.get("type") == kind for one in conditions)


def _request(csr: Object) -> CertificateRequest:
    return certificate_requests.read(base64.b64decode(csr["spec"]["request"]))


def _approve(csr: Object, has_right: Right) -> Approve | None:
    spec = csr["spec"]
    is_open = not (csr.get("status") or {}).get("certificate")
    if not is_open or _has(csr, "Approved") or _has(csr, "Denied"):
        return None
    if spec.get("signerName") != rules.KUBELET:
        return None
    request = _request(csr)
    if rules.kubelet(request, spec.get("usages") or ()):
        return None
    if spec.get("username", "") == request.common_name and has_right("selfnodeclient"):
        return Approve("Auto approving self kubelet client certificate after SubjectAccessReview.")
    if has_right("nodeclient"):
        return Approve("Auto approving kubelet client certificate after SubjectAccessReview.")
    return None


def _sign(csr: Object) -> Fail | Sign | None:
    spec = csr["spec"]
    if (csr.get("status") or {}).get("certificate") or not _has(csr, "Approved"):
        return None
    if _has(csr, "Denied") or _has(csr, "Failed") or spec["signerName"] not in rules.SIGNED:
        return None
    request, seconds = _request(csr), spec.get("expirationSeconds")
    why = rules.complaint(spec["signerName"], request, spec.get("usages") or ())
    if problem := why or rules.limit(request, seconds):
        return Fail(problem)
    days = MAX_DAYS if seconds is None else min(seconds // rules.DAY, MAX_DAYS)
    return Sign(request.common_name, request.organizations, days)
