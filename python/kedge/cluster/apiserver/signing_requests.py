# SPDX-License-Identifier: Apache-2.0
"""CertificateSigningRequests on their way into the store: who asks, whether the key is theirs, what each part changes.

The rules of their fields are ``kedge.api.validation.certificates``; who may approve and sign is in ``signers``; what
becomes of them is the controller's.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import certificate_requests
from kedge.api.keys import ObjectKey
from kedge.api.meta import timestamp
from kedge.api.validation.certificates import APPROVED, DENIED
from kedge.cluster.apiserver import strategies
from kedge.errors import CertificateError
from kedge.hub import certificates

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.api.validation import Problems
    from kedge.cluster.apiserver.access import User
    from kedge.store import Store

Object = dict[str, Any]

GROUP, RESOURCE = "certificates.k8s.io", "certificatesigningrequests"
_ACCOUNT = "system:serviceaccount:"
_FAILURES = {
    "ECDSA": "x509: ECDSA verification failure",
    "Ed25519": "x509: Ed25519 verification failure",
    "RSA": "crypto/rsa: verification error",
}


def is_one(kind: Kind) -> bool:
    """Whether it is the kind that this is about."""
    return kind.resource == RESOURCE and kind.group == GROUP


def name_requester(request: Object, user: User | None, store: Store) -> None:
    """Writes down who asks, whatever the object says.

    Args:
        request: the object; changed.
        user: who asks; none is kedge itself.
        store: where the uid of a ServiceAccount is.
    """
    spec = request.setdefault("spec", {})
    for field in ("username", "uid", "groups", "extra"):
        spec.pop(field, None)
    if user is None:
        return
    spec["username"] = user.name
    if uid := _uid(user.name, store):
        spec["uid"] = uid
    if user.groups:
        spec["groups"] = list(user.groups)


def _uid(user: str, store: Store) -> str:
    namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
    if not name or not user.startswith(_ACCOUNT):
        return ""
    found = store.get(ObjectKey("", "serviceaccounts", namespace, name))
    uid: str = orjson.loads(found.value)["metadata"]["uid"] if found is not None else ""
    return uid


def verify(request: Object, problems: Problems) -> None:
    """Whether the requester holds the key; a request that cannot be read is complained of elsewhere."""
    text = request["spec"].get("request", "")
    pem = base64.b64decode(text)
    try:
        key = certificate_requests.read(pem).key
    except ValueError:
        return
    try:
        certificates.csr_key_hash(pem.decode("latin-1"))
    except CertificateError:
        problems.invalid("spec.request", text, _FAILURES.get(key, _UNKNOWN))


_UNKNOWN = "x509: cannot verify signature: algorithm unimplemented"


def narrow(subresource: str, new: Object, old: Object) -> Object:
    """The old request with only what a subresource covers taken from the new one.

    ``approval`` is the conditions; ``status`` is all of the status, where Approved and Denied stay as they are: one
    more or less is left in, for validation to refuse.
    """
    metadata, status = new["metadata"], new.get("status") or {}
    strategies.keep_metadata(metadata, old["metadata"])
    before = old.get("status") or {}
    conditions = status.get("conditions") or []
    if subresource == "status":
        for kind in (APPROVED, DENIED):
            _preserve(kind, conditions, before.get("conditions") or [])
    _date(conditions, before.get("conditions") or [])
    kept = status if subresource == "status" else before
    changed = {**kept, "conditions": conditions}
    if not conditions:
        del changed["conditions"]
    return {**old, "metadata": metadata, "status": changed}


def _preserve(kind: str, conditions: list[Object], before: list[Object]) -> None:
    new = [index for index, one in enumerate(conditions) if one.get("type") == kind]
    old = [one for one in before if one.get("type") == kind]
    if len(new) == len(old):
        for index, condition in zip(new, old, strict=True):
            conditions[index] = condition


def _date(conditions: list[Object], before: list[Object]) -> None:
    """Fills in times that are missing; a condition that was there goes on from when it began."""
    now = timestamp()
    for condition in conditions:
        condition.setdefault("lastUpdateTime", now)
        if "lastTransitionTime" not in condition:
            same = (
                one["lastTransitionTime"]
                for one in before
                if one.get("type") == condition.get("type")
                and one.get("status") == condition.get("status")
                and "lastTransitionTime" in one
            )
            condition["lastTransitionTime"] = next(same, now)
