# SPDX-License-Identifier: Apache-2.0
"""ServiceAccount tokens: made on request, bound to what asks for them, and reviewed.

A token is an ES256 JWT with the claims kube-apiserver gives. It holds while it has not expired and
what it is bound to is still there with the same UID.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.api.meta import new_uid, timestamp
from kedge.api.validation import Problems
from kedge.cluster.apiserver import failures
from kedge.errors import BadRequest, CertificateError, NotFound
from kedge.hub import certificates

if TYPE_CHECKING:
    from kedge.cluster.apiserver.registry import Registry

Object = dict[str, Any]

MIN_SECONDS = 600
MAX_SECONDS = 1 << 32
DEFAULT_SECONDS = 3600
LONGEST_SECONDS = 365 * 24 * 3600
"""What is asked for beyond this is cut to it."""
_BOUND = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
PREFIX = "system:serviceaccount:"
_PRIVATE = "kubernetes.io"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token stands for."""

    user: str
    uid: str
    groups: tuple[str, ...]
    audiences: tuple[str, ...]
    extra: dict[str, list[str]]


class Tokens:
    """Makes and reviews tokens.

    Args:
        registry: where accounts and what tokens are bound to are looked up.
        key: PEM of the signing key.
        issuer: who issues; also the audience when none is asked for.
    """

    def __init__(self, registry: Registry, key: str, issuer: str) -> None:
        self._registry = registry
        self._key = key
        self._public = certificates.public_key(key)
        self.issuer = issuer

    def jwks(self) -> str:
        """The public keys, for those who check tokens themselves."""
        return certificates.jwks([self._public])

    def request(self, namespace: str, name: str, body: Object) -> Object:
        """Answers a ``TokenRequest`` for an account.

        Raises:
            NotFound: the account, or what the token shall be bound to, is not there.
            Invalid: the lifetime is out of range.
            Conflict: what it shall be bound to has another UID.
        """
        account = self._registry.get(ObjectKey("", "serviceaccounts", namespace, name))
        spec = body.setdefault("spec", {})
        seconds = spec.setdefault("expirationSeconds", DEFAULT_SECONDS)
        _check_lifetime(seconds)
        audiences = spec.setdefault("audiences", [self.issuer]) or [self.issuer]
        now = int(time.time())
        expires = now + min(seconds, LONGEST_SECONDS)
        claims = {
            "aud": audiences,
            "exp": expires,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": new_uid(),
            "sub": f"{PREFIX}{namespace}:{name}",
            _PRIVATE: {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
                **self._bound(namespace, name, spec.get("boundObjectRef")),
            },
        }
        token = certificates.jwt_sign(self._key, claims)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": timestamp(now)},
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": timestamp(expires)},
        }

    def _bound(self, namespace: str, account: str, wanted: Object | None) -> Object:
        if not wanted:
            return {}
        resource = _BOUND.get(wanted.get("kind", ""))
        if resource is None or wanted.get("apiVersion", "v1") != "v1":
            raise BadRequest(
                f"cannot bind token for serviceaccount to object type {wanted.get('apiVersion', '')}/{wanted.get('kind', '')}"
            )
        key = ObjectKey(
            "", resource, "" if resource == "nodes" else namespace, wanted.get("name", "")
        )
        obj = self._registry.get(key)
        metadata = obj["metadata"]
        if wanted.get("uid") and wanted["uid"] != metadata["uid"]:
            kind = find("", resource)
            if kind is None:
                raise AssertionError("what tokens are bound to is served")
            why = f"the UID in the bound object reference ({wanted['uid']}) does not match the UID in record ({metadata['uid']})"
            raise failures.conflict(kind, key.name, why)
        claims: Object = {resource[:-1]: {"name": key.name, "uid": metadata["uid"]}}
        if resource == "pods":
            if obj["spec"].get("serviceAccountName") != account:
                raise BadRequest(
                    f"cannot bind token for serviceaccount {account!r} to pod running with different serviceaccount name"
                )
            claims.update(self._node(obj["spec"].get("nodeName", "")))
        return claims

    def _node(self, name: str) -> Object:
        if not name:
            return {}
        try:
            node = self._registry.get(ObjectKey("", "nodes", "", name))
        except NotFound:
            return {"node": {"name": name}}
        return {"node": {"name": name, "uid": node["metadata"]["uid"]}}

    def review(self, token: str, audiences: list[str]) -> Identity:
        """Whom a token stands for.

        Raises:
            CertificateError: it does not hold; the message says why.
        """
        claims = certificates.jwt_verify(
            [self._public], token, audiences=audiences or [self.issuer]
        )
        if claims.get("iss") != self.issuer:
            raise CertificateError(f"the token was issued by another: {claims.get('iss')}")
        private = claims.get(_PRIVATE)
        if type(private) is not dict:
            raise CertificateError("the token is not a ServiceAccount's")
        namespace, account = private.get("namespace", ""), private.get("serviceaccount", {})
        self._still_there("serviceaccounts", namespace, account)
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti', '')}"]}
        for field, resource in (("pod", "pods"), ("secret", "secrets"), ("node", "nodes")):
            if field in private and (field != "node" or "uid" in private[field]):
                self._still_there(resource, "" if field == "node" else namespace, private[field])
            if field in private and field != "secret":
                for part, value in private[field].items():
                    extra[f"authentication.kubernetes.io/{field}-{part}"] = [value]
        named = claims.get("aud", [])
        named = [named] if isinstance(named, str) else named
        return Identity(
            f"{PREFIX}{namespace}:{account.get('name')}",
            account.get("uid", ""),
            (
                "system:serviceaccounts",
                f"system:serviceaccounts:{namespace}",
                "system:authenticated",
            ),
            tuple(name for name in named if name in (audiences or [self.issuer])),
            extra,
        )

    def _still_there(self, resource: str, namespace: str, wanted: Object) -> None:
        try:
            obj = self._registry.get(ObjectKey("", resource, namespace, wanted.get("name", "")))
        except NotFound as error:
            raise CertificateError(
                f"what the token is bound to is gone: {error.message}"
            ) from error
        if obj["metadata"]["uid"] != wanted.get("uid"):
            raise CertificateError(
                f"what the token is bound to was replaced: {resource} {wanted.get('name')}"
            )


def _check_lifetime(seconds: Any) -> None:
    problems = Problems()
    if type(seconds) is not int or seconds < MIN_SECONDS:
        problems.invalid(
            "spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
        )
    elif seconds > MAX_SECONDS:
        problems.invalid(
            "spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
        )
    problems.raise_for("authentication.k8s.io", "TokenRequest", "")
