# SPDX-License-Identifier: Apache-2.0
"""The controllers of the embedded cluster, a file (or folder) per thing reconciled.

They never import each other: they meet through the store. What they share is
``kedge.cluster.machinery``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kedge.api import kinds
from kedge.cluster.controllers.attachments import plan as attaching
from kedge.cluster.controllers.attachments.controller import Attachments
from kedge.cluster.controllers.autoscalers.controller import PERIOD_SECONDS, Autoscalers
from kedge.cluster.controllers.bootstrap_tokens import BootstrapTokens
from kedge.cluster.controllers.certificates.controller import Certificates
from kedge.cluster.controllers.cron_jobs.controller import CronJobs
from kedge.cluster.controllers.daemon_sets.controller import DaemonSets
from kedge.cluster.controllers.deployments.controller import Deployments
from kedge.cluster.controllers.disruption.controller import Disruption
from kedge.cluster.controllers.endpoints.controller import EndpointsController
from kedge.cluster.controllers.finished_jobs import FinishedJobs
from kedge.cluster.controllers.garbage import Garbage
from kedge.cluster.controllers.jobs.controller import Jobs
from kedge.cluster.controllers.kubernetes_service import KubernetesService
from kedge.cluster.controllers.namespaces import Namespaces
from kedge.cluster.controllers.nodes.controller import Nodes
from kedge.cluster.controllers.nodes.health import GRACE_SECONDS
from kedge.cluster.controllers.pod_garbage import ORPHAN_SECONDS, TERMINATED_LIMIT, PodGarbage
from kedge.cluster.controllers.quotas import Quotas
from kedge.cluster.controllers.replica_sets.controller import ReplicaSets
from kedge.cluster.controllers.service_accounts import ServiceAccounts
from kedge.cluster.controllers.slice_mirroring.controller import SliceMirroring
from kedge.cluster.controllers.stateful_sets.controller import StatefulSets
from kedge.cluster.controllers.volumes.controller import Volumes
from kedge.cluster.machinery.events import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kedge.cluster.apiserver.access import Access
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.hub.certificates import Pair


class Component(Protocol):
    """Something that runs until it is cancelled."""

    async def run(self) -> None:
        """Runs until cancelled."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the controllers."""

    ca_pem: str = ""
    """The API server's certificate authority, for ``kube-root-ca.crt``."""
    authority: Pair | None = None
    """The authority of the API server's clients, with its key; without one nothing is signed or approved."""
    access: Access | None = None
    """Who may do what, for requests that are approved without asking."""
    node_grace_seconds: float = GRACE_SECONDS
    """How long a node may be silent before it counts as out of reach."""
    orphan_seconds: float = ORPHAN_SECONDS
    """How long a Node must have been gone before the pods bound to it are removed."""
    terminated_pods: int = TERMINATED_LIMIT
    """Finished pods kept in all."""
    force_detach_seconds: float = attaching.FORCE_SECONDS
    """How long a node out of reach holds up detaching what it has in use and no pod needs."""
    address: str = ""
    """Where pods reach the API server; empty if there is no such address."""
    port: int = 0
    """At which port they do."""
    ask: Callable[[str], Awaitable[dict[str, Any]]] | None = None
    """Gets what the API server has at a path: the metrics that autoscalers follow."""
    autoscale_seconds: float = PERIOD_SECONDS
    """How often an autoscaler is looked at."""


def all_controllers(client: Client, informer: Informer, config: Config) -> list[Component]:
    """Every controller, to be run together; the informer runs beside them.

    Args:
        client: how they write.
        informer: what they read.
        config: their settings.
    """
    recorder = Recorder(client, "kedge-controllers")
    own: list[Component] = []
    if config.address:
        own.append(KubernetesService(client, informer, config.address, config.port))
    if config.ask is not None:
        period = config.autoscale_seconds
        own.append(Autoscalers(client, informer, recorder, config.ask, period))
    signing: list[Component] = []
    if config.authority is not None and config.access is not None:
        signing = [Certificates(client, informer, config.access, config.authority)]
    return [
        recorder,
        Deployments(client, informer, recorder),
        DaemonSets(client, informer, recorder),
        Disruption(client, informer, recorder),
        EndpointsController(client, informer, recorder),
        *own,
        CronJobs(client, informer, recorder),
        FinishedJobs(client, informer),
        Jobs(client, informer, recorder),
        Nodes(client, informer, recorder, grace_seconds=config.node_grace_seconds),
        Namespaces(client, informer),
        Garbage(client, informer),
        PodGarbage(
            client,
            informer,
            terminated_limit=config.terminated_pods,
            orphan_seconds=config.orphan_seconds,
        ),
        Quotas(client, informer),
        *(
            ReplicaSets(kind, workloads, client, informer, recorder)
            for kind, workloads in (
                (kinds.of("apps", "replicasets"), informer.replica_sets),
                (kinds.of("", "replicationcontrollers"), informer.replication_controllers),
            )
        ),
        ServiceAccounts(client, informer, config.ca_pem),
        SliceMirroring(client, informer, recorder),
        StatefulSets(client, informer, recorder),
        Volumes(client, informer, recorder),
        Attachments(client, informer, recorder, force_seconds=config.force_detach_seconds),
        BootstrapTokens(client, informer),
        *signing,
    ]
