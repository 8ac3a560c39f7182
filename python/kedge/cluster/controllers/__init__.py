# SPDX-License-Identifier: Apache-2.0
"""The controllers of the embedded cluster, a file (or folder) per thing reconciled.

They never import each other: they meet through the store. What they share is
``kedge.cluster.machinery``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kedge.cluster.controllers.deployments.controller import Deployments
from kedge.cluster.controllers.replica_sets import ReplicaSets
from kedge.cluster.controllers.service_accounts import ServiceAccounts
from kedge.cluster.machinery.events import Recorder

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer


class Component(Protocol):
    """Something that runs until it is cancelled."""

    async def run(self) -> None:
        """Runs until cancelled."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the controllers."""

    ca_pem: str = ""
    """The API server's certificate authority, for ``kube-root-ca.crt``."""


def all_controllers(client: Client, informer: Informer, config: Config) -> list[Component]:
    """Every controller, to be run together; the informer runs beside them.

    Args:
        client: how they write.
        informer: what they read.
        config: their settings.
    """
    recorder = Recorder(client, "kedge-controllers")
    return [
        recorder,
        Deployments(client, informer, recorder),
        ReplicaSets(client, informer, recorder),
        ServiceAccounts(client, informer, config.ca_pem),
    ]
