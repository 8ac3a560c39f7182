# SPDX-License-Identifier: Apache-2.0
"""What the cloud role can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from kedge.api import names


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """Settings of ``python -m kedge.cloud``.

    Attributes:
        kubeconfig: how to reach the API server; what its user must be allowed is listed in
            docs/reference/config.md.
        data_dir: where the mirror of the API is kept; it can be lost, and is filled again.
        listen: address and port for nodes: the link and joining, one port.
        advertise: names and addresses that nodes dial; they go into the server certificate, beside
            localhost and the machine's own name.
        api_address: HOST:PORT where API servers reach this replica's port, to get through to its nodes;
            the listening address if not given, or this machine's own 127.0.0.1 when that is all of them.
        node_domain: DOMAIN:PORT; nodes' addresses get NODE.DOMAIN with that port, where the API server answers as
            their kubelets (its nodeDomain). None if not given.
        node_certificate_days: how long a node certificate holds; nodes renew at half of it.
        server_certificate_days: how long the hub's own certificate holds; renewed at half of it,
            while connections go on.
        lease_seconds: how often a connected node's Lease is renewed.
        report_workers: how many reports are written to the API at a time.
        join_per_minute: how many join attempts one address may make.
        token_renew_at: the part of its life after which a pod's ServiceAccount token is renewed; the
            kubelet's share if not given, less only for tests.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """

    kubeconfig: str = "kedge-data/cluster/cloud.kubeconfig"
    data_dir: str = "kedge-data/cloud"
    listen: str = "0.0.0.0:10000"
    advertise: tuple[str, ...] = ()
    api_address: str = ""
    node_domain: str = ""
    node_certificate_days: Annotated[int, Meta(ge=1, le=3650)] = 365
    server_certificate_days: Annotated[int, Meta(ge=1, le=3650)] = 90
    lease_seconds: Annotated[int, Meta(ge=1, le=30)] = 10
    report_workers: Annotated[int, Meta(ge=1, le=1024)] = 32
    join_per_minute: Annotated[int, Meta(ge=1, le=100_000)] = 60
    token_renew_at: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        """Checks what a type alone cannot.

        Raises:
            ValueError: a value does not fit.
        """
        if self.api_address and not is_address(self.api_address):
            raise ValueError(f"apiAddress: got: {self.api_address!r}, wanted: HOST:PORT")
        if self.node_domain and (
            not is_address(self.node_domain) or names.subdomain(self.node_domain.rpartition(":")[0])
        ):
            raise ValueError(f"nodeDomain: got: {self.node_domain!r:.80}, wanted: DOMAIN:PORT")
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            got = self.listen
            raise ValueError(f"listen: got: {got!r}, wanted: ADDRESS:PORT such as 0.0.0.0:10000")

    def reached_at(self, port: int) -> str:
        """Where API servers reach this replica, whose hub listens on ``port``."""
        host = self.listen.rpartition(":")[0]
        everywhere = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104
        return self.api_address or f"{everywhere.get(host, host)}:{port}"


def is_address(text: str) -> bool:
    """Whether a text is HOST:PORT."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536
