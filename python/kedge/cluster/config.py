# SPDX-License-Identifier: Apache-2.0
"""Settings of the embedded cluster."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from kedge.api import names
from kedge.cluster import credentials
from kedge.cluster.apiserver.registry import DEFAULT_SERVICE_CIDR

ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What ``python -m kedge.cluster`` can be told.

    Attributes:
        data_dir: where everything durable is kept: the store, keys and certificates, kubeconfigs.
        listen: address and port of the API server; port 0 lets the system choose.
        names: further DNS names and IP addresses that clients reach the API server by.
        node_domain: the API server answers at NODE.DOMAIN as the kubelet of that node, for who reads nodes'
            addresses; a wildcard DNS record leads there. None if not given.
        service_cidr: the range of the Services' cluster IPs, or two, one of each family, with a comma between them; fixed
            once there are Services.
        issuer: who ServiceAccount tokens say they are from; changing it ends all of them.
        event_ttl_seconds: how long Events are kept after they were last seen.
        history: how many changes a watch can look back.
        history_seconds: how long a watch or a list in pages can look back at least, and at most twice that; as
            kube-apiserver's compaction.
        audit_policy_file: which requests are written down, and how much of them (audit.k8s.io/v1 Policy); none if not given.
        audit_log_path: where; audit.log below dataDir if not given.
        audit_log_max_size: the megabytes of a file before it is set aside.
        audit_log_max_age: the days for which files set aside are kept; 0 is for good.
        audit_log_max_backup: how many of them are kept; 0 is all.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """

    data_dir: Path = Path("kedge-data/cluster")
    listen: str = "127.0.0.1:6443"
    names: tuple[str, ...] = ()
    node_domain: str = ""
    service_cidr: str = DEFAULT_SERVICE_CIDR
    issuer: str = ISSUER
    event_ttl_seconds: Annotated[int, Meta(ge=60)] = 3600
    history: Annotated[int, Meta(ge=100)] = 10_000
    history_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 300
    audit_policy_file: str = ""
    audit_log_path: str = ""
    audit_log_max_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    audit_log_max_age: Annotated[int, Meta(ge=0, le=36_500)] = 0
    audit_log_max_backup: Annotated[int, Meta(ge=0, le=100_000)] = 10
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        """Checks what a type alone cannot.

        Raises:
            ValueError: a value does not fit.
        """
        split_address(self.listen)
        if self.node_domain:
            self._check_node_domain()
        self._check_service_cidr()

    def _check_service_cidr(self) -> None:
        got, seen = self.service_cidr, set()
        for cidr in got.split(","):
            try:
                network = ipaddress.ip_network(cidr.strip())
            except ValueError:
                raise ValueError(
                    f"serviceCidr: got: {got!r}, wanted: a network such as 10.96.0.0/16"
                ) from None
            if network.num_addresses < 8:
                raise ValueError(f"serviceCidr: got: {got!r}, wanted: at least 8 addresses")
            if network.version in seen:
                raise ValueError(f"serviceCidr: got: {got!r}, wanted: one network per family")
            seen.add(network.version)

    def _check_node_domain(self) -> None:
        if complaint := names.subdomain(self.node_domain):
            raise ValueError(f"nodeDomain: got: {self.node_domain!r:.80}: {complaint}")
        for own in (*self.names, *credentials.NAMES):
            if own.lower().endswith(f".{self.node_domain}"):
                got = self.node_domain
                raise ValueError(
                    f"nodeDomain: got: {got!r}, wanted: one without {own!r}, the API server's name"
                )


def outward_address(host: str) -> str:
    """The address that others can reach this machine at; empty if there is none.

    It is ``host``, unless that is every address or one that only this machine can use: then
    the one that packets to elsewhere leave from. None is sent.
    """
    address = ipaddress.ip_address(host)
    if not address.is_unspecified and not address.is_loopback:
        return str(address)
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((elsewhere, 9))
            except OSError:
                continue
            found = ipaddress.ip_address(probe.getsockname()[0])
        if not (found.is_unspecified or found.is_loopback or found.is_link_local):
            return str(found)
    return ""


def split_address(listen: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        ValueError: it is not ``ADDRESS:PORT``.
    """
    host, _, port = listen.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise ValueError(f"listen: got: {listen!r}, wanted: ADDRESS:PORT such as 127.0.0.1:6443")
    return host.strip("[]"), number
