# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and signed tokens: the face of the extension's ``pki``.

PEM texts in, PEM texts out; every key is ECDSA P-256 and every token ES256. Names in a certificate
always come from the caller, never from a request. Nothing here keeps state or reads a clock other
than the one it is given (``now``, seconds since 1970; left out, the system's). A refusal is a
``CertificateError`` that says what was wrong.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core's pki

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = _core.VERSION
"""The version of the extension, which is kedge's."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (or a request) and its private key, both PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Details:
    """What a certificate says.

    Attributes:
        common_name: the subject's CN.
        organizations: the subject's O values, which Kubernetes reads as groups.
        not_before: seconds since 1970 from which it holds.
        not_after: seconds since 1970 after which it does not.
        serial: in hexadecimal.
        sans: alternative names as ``DNS:name``, ``IP:address``, ``URI:text``.
        is_ca: whether it may sign others.
    """

    common_name: str
    organizations: tuple[str, ...]
    not_before: int
    not_after: int
    serial: str
    sans: tuple[str, ...]
    is_ca: bool

    def renew_at(self) -> float:
        """When half of its life is over, in seconds since 1970."""
        return (self.not_before + self.not_after) / 2


def new_key() -> str:
    """A new private key (PKCS#8)."""
    return _core.pki_new_key()


def create_ca(common_name: str, *, days: int) -> Pair:
    """A new certificate authority that may sign leaves and nothing else."""
    return Pair(*_core.pki_create_ca(common_name, days))


def issue(
    authority: Pair,
    *,
    common_name: str,
    organizations: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
    uris: Sequence[str] = (),
    days: int,
    server: bool = False,
    client: bool = False,
) -> Pair:
    """A certificate with a new key, signed by ``authority``.

    Args:
        authority: who signs.
        common_name: the subject's CN.
        organizations: the subject's O, at most one.
        dns_names: names that a server answers to.
        ip_addresses: addresses that a server answers at.
        uris: what else it is for, such as the object that it stands for.
        days: how long it holds from now; it is dated back by five minutes.
        server: may serve.
        client: may ask.

    Raises:
        Invalid: a name or number is out of range.
        CertificateError: the authority's certificate or key is unusable.
    """
    return Pair(
        *_core.pki_issue(
            authority.certificate,
            authority.key,
            common_name,
            list(organizations),
            list(dns_names),
            list(ip_addresses),
            list(uris),
            days,
            server,
            client,
        )
    )


def make_csr(common_name: str, organizations: Sequence[str] = (), *, key: str = "") -> Pair:
    """A certificate request; with a new key unless one is given."""
    if key:
        return Pair(_core.pki_make_csr_with_key(common_name, list(organizations), key), key)
    return Pair(*_core.pki_make_csr(common_name, list(organizations)))


def sign_csr(
    authority: Pair,
    csr: str,
    *,
    common_name: str,
    organizations: Sequence[str] = (),
    uris: Sequence[str] = (),
    days: int,
) -> str:
    """A client certificate for the key of a request, with the names given here.

    Raises:
        CertificateError: the request is malformed or its signature does not hold.
    """
    return _core.pki_sign_csr(
        authority.certificate,
        authority.key,
        csr,
        common_name,
        list(organizations),
        list(uris),
        days,
    )


def inspect(certificate: str) -> Details:
    """What a certificate says.

    Raises:
        CertificateError: it is malformed.
    """
    name, organizations, before, after, serial, sans, is_ca = _core.pki_inspect(certificate)
    return Details(name, tuple(organizations), before, after, serial, tuple(sans), is_ca)


def check(certificate: str, ca: str, *, now: float | None = None) -> None:
    """Refuses a certificate that does not hold now or that another authority signed.

    Raises:
        CertificateError: expired, not yet valid, or signed by another authority; the message says.
    """
    _core.pki_check(certificate, ca, _moment(now))


def fingerprint(certificate: str) -> str:
    """``sha256:`` and the digest of the whole certificate."""
    return _core.pki_fingerprint(certificate)


def ca_hash(certificate: str) -> str:
    """``sha256:`` and the digest of a certificate's public key (kubeadm's discovery hash)."""
    return _core.pki_ca_hash(certificate)


def csr_key_hash(csr: str) -> str:
    """The same for the key of a request, whose signature must hold."""
    return _core.pki_csr_key_hash(csr)


def same_key(certificate: str, key: str) -> bool:
    """Whether a private key belongs to a certificate."""
    return _core.pki_same_key(certificate, key)


def public_key(key: str) -> str:
    """The public half of a private key, as a ``PUBLIC KEY`` text."""
    return _core.pki_public_key(key)


def jwt_sign(key: str, claims: dict[str, Any], *, key_id: str = "") -> str:
    """A token; ``key_id`` is the digest of the key unless given."""
    return _core.pki_jwt_sign(key, json.dumps(claims, separators=(",", ":")), key_id)


def jwt_verify(
    keys: Sequence[str], token: str, *, audiences: Sequence[str] = (), now: float | None = None
) -> dict[str, Any]:
    """The claims of a token that holds.

    Args:
        keys: PEM texts of public keys or certificates, any of which may have signed it.
        token: at most 16 KiB.
        audiences: one of them must be meant; none given, any will do.
        now: seconds since 1970.

    Raises:
        CertificateError: malformed, foreign, expired, not yet valid or for another audience.
    """
    claims: dict[str, Any] = json.loads(
        _core.pki_jwt_verify(list(keys), token, _moment(now), list(audiences))
    )
    return claims


def jwks(keys: Sequence[str]) -> str:
    """The public halves of ``keys`` as a JSON Web Key Set."""
    return _core.pki_jwks(list(keys))


def random_token(size: int = 24) -> str:
    """``size`` random bytes, as URL-safe text."""
    return _core.pki_random_token(size)


def _moment(now: float | None) -> int:
    return int(time.time() if now is None else now)
