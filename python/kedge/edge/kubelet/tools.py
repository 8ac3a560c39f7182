# SPDX-License-Identifier: Apache-2.0
"""What every pod worker works with, and where on disk things are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kedge.edge.kubelet.container.dns import Resolver
from kedge.edge.kubelet.container.environment import Place
from kedge.edge.kubelet.container.host_ports import HostPorts
from kedge.edge.kubelet.container.security import Settings
from kedge.edge.kubelet.pod.status import Host
from kedge.edge.runtime import Abilities

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from kedge.edge.kubelet.admission.device_admission import DeviceSource
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.images.images import Images
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.reports import Reporter
    from kedge.edge.kubelet.resources.cgroups import Cgroups
    from kedge.edge.kubelet.volumes import Prepared
    from kedge.edge.kubelet.volumes.sources import Figures
    from kedge.edge.runtime import ContainerRuntime


class VolumeSource(Protocol):
    """Gives pods their volumes.

    ``usage`` asks drivers what the volumes of a pod take; by ``Prepared.told_as``.
    """

    usage: Callable[[str], Awaitable[dict[str, Figures]]]

    async def prepare(self, pod: Pod, objects: Objects) -> dict[str, Prepared]:
        """The volumes by name; the same again when repeated. It may take its time, and be cancelled."""

    def refresh(self, pod: Pod, objects: Objects) -> None:
        """Brings the files of a running pod up to its objects."""

    async def remove(self, uid: str) -> None:
        """Removes all of a pod's volumes."""

    def left_over(self) -> list[str]:
        """Pods that have volumes somewhere else than in their directory."""


class Prober(Protocol):
    """Makes network probes."""

    async def probe(self, what: dict[str, Any], timeout_seconds: float) -> tuple[bool, str]:
        """Whether it succeeded, and what to show if not (``edge.runtime.prober``)."""


@dataclass(slots=True)
class Facts:
    """What is known of the node; the heartbeat keeps it current.

    Attributes:
        node: its name.
        addresses: its IP addresses, the main one first.
        runtime_name: as container ids are prefixed.
        memory_bytes: of the machine.
        allocatable: cpu and memory that pods may have.
        resolver: what its resolv.conf says, if ``resolv_conf`` is not read.
        resolv_conf: the node's resolv.conf, read for each pod: a node changes its network.
        cluster_dns: resolvers for pods with ``ClusterFirst``; none uses the node's.
        cluster_domain: their domain.
        dead_kept: how many dead containers of a name stay beside the newest.
        dead_age_seconds: one that ended since then stays anyway.
        api_endpoint: where pods reach an API server, if anywhere.
        security: what the settings say of it.
        hosts: the node's hosts file, for pods on the host network.
        abilities: what the runtime can do.
    """

    node: str
    addresses: tuple[str, ...] = ()
    runtime_name: str = "containerd"
    memory_bytes: int = 0
    allocatable: dict[str, str] = field(default_factory=dict)
    resolver: Resolver = field(default_factory=Resolver)
    resolv_conf: Path | None = None
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    api_endpoint: tuple[str, int] | None = None
    security: Settings = field(default_factory=Settings)
    hosts: Path = Path("/etc/hosts")
    abilities: Abilities = field(default_factory=Abilities)
    dead_kept: int = 1
    dead_age_seconds: float = 0.0

    def host(self) -> Host:
        """For a pod's status."""
        return Host(self.addresses, self.runtime_name)

    def place(self, pod_ips: tuple[str, ...]) -> Place:
        """For a pod's environment."""
        return Place(
            self.node,
            self.addresses,
            pod_ips or self.addresses,
            self.allocatable,
            self.api_endpoint,
        )


@dataclass(frozen=True, slots=True)
class Paths:
    """Directories of the kubelet.

    Attributes:
        pods: one directory per pod UID: volumes, hosts file, termination messages.
        logs: container logs, ``<namespace>_<name>_<uid>/<container>/<attempt>.log``.
    """

    pods: Path
    logs: Path

    def pod(self, uid: str) -> Path:
        """A pod's own directory."""
        return self.pods / uid

    def log_directory(self, pod: Pod) -> Path:
        """Where a pod's container logs are."""
        metadata = pod["metadata"]
        return self.logs / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


@dataclass(frozen=True, slots=True)
class Tools:
    """The kubelet's shared parts, handed to each worker.

    ``log_ended`` is told the ids of containers that have ended, for those who follow their logs.
    ``others`` gives the pods that run here beside the one of that UID; ``room`` is told when one of
    them takes less; ``refusal`` says why a new pod may not start now. Without
    ``cgroups`` the runtime puts pods where it likes; without ``devices`` there are no device plugins.
    """

    runtime: ContainerRuntime
    objects: Objects
    volumes: VolumeSource
    images: Images
    prober: Prober
    recorder: Recorder
    reporter: Reporter
    facts: Facts
    paths: Paths
    sandbox_limit: asyncio.Semaphore
    start_limit: asyncio.Semaphore
    log_ended: Callable[[str], None] = lambda _: None
    host_ports: HostPorts = field(default_factory=HostPorts)
    cgroups: Cgroups | None = None
    devices: DeviceSource | None = None
    others: Callable[[str], list[Pod]] = lambda _: []
    room: Callable[[], None] = lambda: None
    refusal: Callable[[Pod], str] = lambda _: ""
    clock: Callable[[], float] = time.time
