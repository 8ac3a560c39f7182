# SPDX-License-Identifier: Apache-2.0
"""The cluster's keys and certificates on disk, and the kubeconfigs made from them.

``pki/ca.crt|key`` and ``pki/sa.key`` are made once: everything trusts them. The server's and the
clients' certificates are made anew at each start, so that they never run out unseen and always name
the addresses in use. Private files are 0600 from the moment they exist, and appear whole.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from kedge.errors import ConfigError
from kedge.files import write_whole
from kedge.hub import certificates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CA_DAYS = 3650
LEAF_DAYS = 365
NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
ADMIN = ("kubernetes-admin", "system:masters")
CLOUD = ("kedge-cloud", "kedge:cloud")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the API server serves with and trusts, all PEM."""

    ca: certificates.Pair
    server: certificates.Pair
    accounts_key: str = field(repr=False)


def prepare(directory: Path, names: Sequence[str]) -> Credentials:
    """Reads the keys in ``directory``, making what is absent.

    Args:
        directory: made when absent.
        names: DNS names and IP addresses of the API server, beside the usual ones.

    Raises:
        ConfigError: a file is there but cannot be used.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = _authority(directory)
    server = certificates.issue(
        ca,
        common_name="kube-apiserver",
        dns_names=[*NAMES, *(name for name in names if not _is_address(name))],
        ip_addresses=sorted({"127.0.0.1", "::1", *(name for name in names if _is_address(name))}),
        days=LEAF_DAYS,
        server=True,
    )
    write_whole(directory / "apiserver.crt", server.certificate)
    write_whole(directory / "apiserver.key", server.key)
    return Credentials(ca, server, _accounts_key(directory / "sa.key"))


def write_kubeconfig(path: Path, ca: certificates.Pair, url: str, who: tuple[str, str]) -> None:
    """Writes a kubeconfig with a client certificate of its own.

    Args:
        path: replaced at once.
        ca: who signs the client's certificate and the server's.
        url: of the API server.
        who: user and group.
    """
    user, group = who
    client = certificates.issue(
        ca, common_name=user, organizations=[group], days=LEAF_DAYS, client=True
    )
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "kedge",
                "cluster": {"server": url, "certificate-authority-data": _base64(ca.certificate)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(client.certificate),
                    "client-key-data": _base64(client.key),
                },
            }
        ],
        "contexts": [{"name": "kedge", "context": {"cluster": "kedge", "user": user}}],
        "current-context": "kedge",
    }
    write_whole(path, yaml.safe_dump(document, sort_keys=False))


def _authority(directory: Path) -> certificates.Pair:
    certificate, key = directory / "ca.crt", directory / "ca.key"
    if not certificate.exists() and not key.exists():
        made = certificates.create_ca("kedge-cluster", days=CA_DAYS)
        write_whole(key, made.key)
        write_whole(certificate, made.certificate)
    pair = certificates.Pair(_read(certificate), _read(key))
    if not certificates.same_key(pair.certificate, pair.key):
        raise ConfigError(f"{key}: does not belong to {certificate}")
    return pair


def _accounts_key(path: Path) -> str:
    if not path.exists():
        write_whole(path, certificates.new_key())
    return _read(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
