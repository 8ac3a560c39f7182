# SPDX-License-Identifier: Apache-2.0
"""Join tokens: what lets a machine ask for a node certificate.

A token is ``<hash of the CA's public key>.<JWT>``. The hash lets a node know the right cloud before
it trusts anything (kubeadm's discovery hash); the JWT says who made the token, until when it holds
and what it allows. It is valid while its signature and time hold **and** its Secret
``join-token-<id>`` exists: deleting the Secret revokes it, in every replica at once.

Pure: texts and dicts in and out. The API is asked in ``kedge.cloud.joining`` and ``kedge.ctl``.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from kedge.errors import CertificateError, Invalid
from kedge.hub import certificates

AUDIENCE = "kedge-join"
ISSUER = "kedge"
NAMESPACE = "kedge-system"
CA_SECRET = "kedge-ca"  # noqa: S105 - the name of a Secret
KEY_SECRET = "kedge-token-key"  # noqa: S105 - the name of a Secret
SECRET_PREFIX = "join-token-"  # noqa: S105 - the start of a Secret's name
LABEL = "kedge.io/join-token"
MAX_TTL_SECONDS = 10 * 365 * 86400
MAX_TOKEN_CHARACTERS = 4096

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token taken apart, not yet verified.

    Attributes:
        ca_hash: ``sha256:`` and the digest of the CA's public key.
        jwt: the signed part.
    """

    ca_hash: str
    jwt: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows.

    Attributes:
        id: names its Secret.
        expires: seconds since 1970.
        node: the only node name that may join with it; empty for any.
        rejoin: whether it may take over a name that another key holds.
    """

    id: str
    expires: int
    node: str = ""
    rejoin: bool = False

    @property
    def secret_name(self) -> str:
        """The Secret whose deletion revokes the token."""
        return SECRET_PREFIX + self.id


def new_grant(now: float, ttl_seconds: float, *, node: str = "", rejoin: bool = False) -> Grant:
    """A grant with a new id.

    Raises:
        Invalid: the time to live is out of range.
    """
    if not 1 <= ttl_seconds <= MAX_TTL_SECONDS:
        raise Invalid(f"token ttl: wanted 1 s to 10 years, got: {ttl_seconds:g} s")
    identity = certificates.random_token(8).lower().replace("_", "x").replace("-", "z")
    return Grant(identity, int(now + ttl_seconds), node, rejoin)


def encode(grant: Grant, ca: str, key: str, now: float) -> str:
    """The text of a token.

    Args:
        grant: what it allows.
        ca: the CA's certificate (PEM).
        key: the token-signing key (PEM).
        now: seconds since 1970.
    """
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": grant.id,
        "iat": int(now),
        "exp": grant.expires,
    }
    if grant.node:
        claims["node"] = grant.node
    if grant.rejoin:
        claims["rejoin"] = True
    ca_hash = certificates.ca_hash(ca).removeprefix("sha256:")
    return f"{ca_hash}.{certificates.jwt_sign(key, claims)}"


def parse(text: str) -> JoinToken:
    """Takes a token apart.

    Raises:
        CertificateError: it does not look like a token.
    """
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise CertificateError(
            f"join token: longer than {MAX_TOKEN_CHARACTERS} characters: {len(text)}"
        )
    ca_hash, _, jwt = text.strip().partition(".")
    if not _HASH.fullmatch(ca_hash) or jwt.count(".") != 2:
        raise CertificateError(
            "join token: malformed: wanted the CA's hash and a signed part, joined by dots"
        )
    return JoinToken(f"sha256:{ca_hash}", jwt)


def verify(jwt: str, public_key: str, now: float) -> Grant:
    """What a signed part allows, if it holds.

    Raises:
        CertificateError: malformed, foreign, expired or not a join token.
    """
    claims = certificates.jwt_verify([public_key], jwt, audiences=[AUDIENCE], now=now)
    identity = claims.get("jti")
    if claims.get("iss") != ISSUER or not isinstance(identity, str) or not identity:
        raise CertificateError("join token: it has no id or another issuer")
    return Grant(
        identity, int(claims["exp"]), str(claims.get("node", "")), claims.get("rejoin") is True
    )


def to_secret(grant: Grant, now: float) -> dict[str, Any]:
    """The Secret that keeps a token valid; it does not hold the token itself."""
    data = {
        "id": grant.id,
        "created": str(int(now)),
        "expires": str(grant.expires),
        "node": grant.node,
        "rejoin": "true" if grant.rejoin else "false",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": grant.secret_name,
            "namespace": NAMESPACE,
            "labels": {LABEL: "true"},
        },
        "type": "kedge.io/join-token",
        "data": {name: _encode(value) for name, value in data.items()},
    }


def from_secret(secret: dict[str, Any]) -> Grant:
    """The grant that a Secret stands for.

    Raises:
        Invalid: the Secret is not one of ours.
    """
    try:
        data = secret["data"]
        return Grant(
            _decode(data["id"]),
            int(_decode(data["expires"])),
            _decode(data.get("node", "")),
            _decode(data.get("rejoin", "")) == "true",
        )
    except (KeyError, ValueError, TypeError) as error:
        name = secret.get("metadata", {}).get("name")
        raise Invalid(f"secret {name}: not a join token: {error!r}") from error


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return base64.b64decode(text, validate=True).decode()
