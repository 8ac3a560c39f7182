# SPDX-License-Identifier: Apache-2.0
"""The certificate authority and the token-signing key, kept in Secrets that all replicas share.

Each Secret is created if absent; of two replicas that try at once, one wins and the other reads what
the winner wrote. The hub's own certificate is issued at each start, is never stored, and is renewed
at half of its life while connections go on.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kedge.api.keys import ObjectKey
from kedge.errors import AlreadyExists, CertificateError, NotFound
from kedge.hub import certificates, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.cloud.config import CloudConfig

log = logging.getLogger(__name__)

CA_DAYS = 3650
COMMON_NAME = "kedge-ca"
SERVER_NAME = "kedge-hub"
"""The name that nodes verify, whatever address they dial: NAT and new addresses break nothing."""


class Secrets(Protocol):
    """The part of an API client that this module needs."""

    async def get(self, key: ObjectKey) -> dict[str, Any]:
        """Reads one object."""

    async def create(self, key: ObjectKey, obj: dict[str, Any]) -> dict[str, Any]:
        """Creates one object."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs node certificates and join tokens."""

    ca: certificates.Pair
    token_key: str = field(repr=False)

    @property
    def token_public_key(self) -> str:
        """What checks join tokens."""
        return certificates.public_key(self.token_key)


async def load(client: Secrets) -> Authority:
    """Reads the authority from the API; makes what is missing.

    Raises:
        CertificateError: a Secret is there, but not usable.
        ApiError: the API refused.
    """
    await _create_if_absent(
        client,
        ObjectKey("", "namespaces", "", tokens.NAMESPACE),
        lambda: {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": tokens.NAMESPACE},
        },
    )
    ca = await _create_if_absent(client, _secret_key(tokens.CA_SECRET), _new_ca)
    key = await _create_if_absent(client, _secret_key(tokens.KEY_SECRET), _new_token_key)
    return read(ca, key)


def read(ca_secret: dict[str, Any], key_secret: dict[str, Any]) -> Authority:
    """The authority that two Secrets hold.

    Raises:
        CertificateError: an entry is missing, or key and certificate do not match.
    """
    pair = certificates.Pair(_entry(ca_secret, "tls.crt"), _entry(ca_secret, "tls.key"))
    if not certificates.same_key(pair.certificate, pair.key):
        raise CertificateError(
            f"secret {tokens.NAMESPACE}/{tokens.CA_SECRET}: tls.key is not the key of tls.crt"
        )
    return Authority(pair, _entry(key_secret, "token.key"))


def server_names(config: CloudConfig) -> tuple[list[str], list[str]]:
    """The DNS names and the addresses that the hub's certificate is for."""
    names = [SERVER_NAME, "localhost"]
    addresses = ["127.0.0.1", "::1"]
    host = config.listen.rpartition(":")[0].strip("[]")
    for name in (socket.gethostname(), host, *config.advertise):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            if name and name not in names:
                names.append(name)
        else:
            if not address.is_unspecified and str(address) not in addresses:
                addresses.append(str(address))
    return names, addresses


def server_certificate(authority: Authority, config: CloudConfig) -> certificates.Pair:
    """A new certificate for the hub."""
    names, addresses = server_names(config)
    return certificates.issue(
        authority.ca,
        common_name=SERVER_NAME,
        dns_names=names,
        ip_addresses=addresses,
        days=config.server_certificate_days,
        server=True,
    )


class ServerCertificate:
    """Keeps the hub's certificate fresh.

    Args:
        authority: who signs.
        config: names and life time.
        first: the pair that the hub was started with.
        install: gives a new pair to the hub; connections go on.
    """

    def __init__(
        self,
        authority: Authority,
        config: CloudConfig,
        first: certificates.Pair,
        install: Callable[[certificates.Pair], None],
    ) -> None:
        self._authority = authority
        self._config = config
        self._pair = first
        self._install = install

    async def run(self) -> None:
        """Issues another certificate at half the life of each."""
        while True:
            details = certificates.inspect(self._pair.certificate)
            log.info("hub certificate serial=%s names=%s", details.serial, ",".join(details.sans))
            await asyncio.sleep(max(60.0, details.renew_at() - time.time()))
            self._pair = server_certificate(self._authority, self._config)
            self._install(self._pair)


async def _create_if_absent(
    client: Secrets, key: ObjectKey, make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    with suppress(NotFound):
        return await client.get(key)
    try:
        created = await client.create(key, make())
    except AlreadyExists:
        return await client.get(key)
    log.info("created %s", key)
    return created


def _secret_key(name: str) -> ObjectKey:
    return ObjectKey("", "secrets", tokens.NAMESPACE, name)


def _new_ca() -> dict[str, Any]:
    pair = certificates.create_ca(COMMON_NAME, days=CA_DAYS)
    return _secret(
        tokens.CA_SECRET,
        "kubernetes.io/tls",
        {"tls.crt": pair.certificate, "tls.key": pair.key},
    )


def _new_token_key() -> dict[str, Any]:
    return _secret(tokens.KEY_SECRET, "kedge.io/key", {"token.key": certificates.new_key()})


def _secret(name: str, kind: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": tokens.NAMESPACE},
        "type": kind,
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def _entry(secret: dict[str, Any], name: str) -> str:
    try:
        return base64.b64decode(secret["data"][name], validate=True).decode()
    except (KeyError, TypeError, ValueError) as error:
        where = secret.get("metadata", {}).get("name")
        raise CertificateError(
            f"secret {tokens.NAMESPACE}/{where}: wanted a base64 entry {name}, got: {error!r}"
        ) from error
