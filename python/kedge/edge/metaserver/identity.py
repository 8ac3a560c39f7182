# SPDX-License-Identifier: Apache-2.0
"""The node's own authority, which pods of this node trust beside the cluster's, and its token key.

The serving certificate comes from an authority that this node made and that only its own pods are
told of: no node can pass for the cluster's API server anywhere else (decision 0130). Files are
made once; the certificates of the server and of the node's operator at every start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kedge.errors import CertificateError, ConfigError
from kedge.files import write_whole
from kedge.hub import certificates
from kedge.hub.certificates import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

DAYS = 3650
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the MetaServer shows and signs with, all PEM.

    Attributes:
        authority: the certificate that pods trust.
        serving: the server's certificate and key.
        operator: those of whoever may read the node's files.
        token_key: what tokens are signed with while the cloud is away.
        token_public_key: what they are checked with.
        issuer: whom they name.
    """

    authority: str
    serving: Pair
    operator: Pair
    token_key: str = field(repr=False)
    token_public_key: str
    issuer: str


def load(
    directory: Path, node: str, domain: str, addresses: Sequence[str], operators: str
) -> Identity:
    """Reads the keys in ``directory``, making what is absent or will not last.

    Args:
        directory: the node's ``pki``.
        node: its name.
        domain: the cluster's, as ``cluster.local``.
        addresses: where the server is reached.
        operators: the group of the node's own operators.

    Raises:
        ConfigError: a file is there but cannot be used, or cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(directory, node)
        key = _kept(directory / "metaserver-tokens.key", certificates.new_key)
        serving = certificates.issue(
            authority,
            common_name="kedge-metaserver",
            dns_names=[*NAMES, f"{NAMES[-1]}.{domain}"],
            ip_addresses=sorted({"127.0.0.1", *addresses}),
            days=DAYS - 1,
            server=True,
        )
        operator = certificates.issue(
            authority,
            common_name=f"kedge:node-operator:{node}",
            organizations=[operators],
            days=DAYS - 1,
            client=True,
        )
        return Identity(
            authority.certificate,
            serving,
            operator,
            key,
            certificates.public_key(key),
            f"kedge-node:{node}",
        )
    except (OSError, UnicodeDecodeError, CertificateError) as error:
        raise ConfigError(f"{directory}: the MetaServer's keys cannot be used: {error}") from error


def _authority(directory: Path, node: str) -> Pair:
    certificate, key = directory / "metaserver-ca.crt", directory / "metaserver-ca.key"
    if certificate.exists() and key.exists():
        found = Pair(certificate.read_text("ascii"), key.read_text("ascii"))
        details = certificates.inspect(found.certificate)
        # At half of its life another is made; pods get it with the next refresh of their volumes.
        if details.renew_at() > time.time():
            return found
    made = certificates.create_ca(f"kedge-node:{node}", days=DAYS)
    write_whole(key, made.key)
    write_whole(certificate, made.certificate)
    return made


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        write_whole(path, make())
    return path.read_text("ascii")
