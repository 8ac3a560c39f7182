# SPDX-License-Identifier: Apache-2.0
"""The node's own reports: the Node object at registration, its status on change and now and then.

That the node is alive is the link's to say (the cloud renews the Lease while it is up); a status
report tells what only the node knows, and costs nothing while nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.aio import wait_at_most
from kedge.edge.kubelet.node import node_info
from kedge.edge.kubelet.pod.lifecycle import format_time
from kedge.edge.kubelet.volumes import local_path
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kedge.edge.kubelet.images.images import Images
    from kedge.edge.kubelet.node.reservations import Reservations
    from kedge.edge.kubelet.reports import Reporter
    from kedge.edge.kubelet.tools import Facts
    from kedge.edge.network.bridge import Bridge
    from kedge.edge.runtime import Abilities, ContainerRuntime, Image

LOOK_SECONDS = 10.0
REPORT_SECONDS = 300.0
RUNTIME_SECONDS = 10.0
"""A runtime that does not say its version and state within this time hangs."""
IMAGES_SECONDS = 60.0
MAX_IMAGES, MAX_IMAGE_NAMES = 50, 5
VERSION = "v1.36.2"
"""The version of the kubelet's API that is spoken."""
EDGE_LABELS = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}

_log = logging.getLogger(__name__)
Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Registration:
    """What the configuration says of the node.

    Attributes:
        name: its name.
        labels: beside the standard ones.
        taints: at the first registration.
        max_pods: as capacity.
        reservations: what pods do not get.
        agent: the agent's version.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    max_pods: int = 110
    agent: str = ""
    reservations: Reservations | None = None


def node_object(
    registration: Registration, info: node_info.NodeInfo, status: Status
) -> dict[str, Any]:
    """The Node that is created if there is none."""
    system = info.system
    standard = {
        "kubernetes.io/hostname": registration.name,
        "kubernetes.io/os": system.get("operatingSystem", "linux"),
        "kubernetes.io/arch": system.get("architecture", ""),
        "beta.kubernetes.io/os": system.get("operatingSystem", "linux"),
        "beta.kubernetes.io/arch": system.get("architecture", ""),
    }
    spec: dict[str, Any] = {"taints": registration.taints} if registration.taints else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": registration.name,
            "labels": standard | EDGE_LABELS | registration.labels,
        },
        "spec": spec,
        "status": status,
    }


def node_status(
    registration: Registration,
    info: node_info.NodeInfo,
    conditions: list[Status],
    runtime_version: str,
    abilities: Abilities | None = None,
) -> Status:
    """The node's status but for what others own."""
    addresses = [{"type": "InternalIP", "address": one} for one in info.addresses]
    pods = str(registration.max_pods)
    return {
        "capacity": info.capacity | {"pods": pods},
        "allocatable": info.allocatable | {"pods": pods},
        "conditions": conditions,
        "addresses": [*addresses, {"type": "Hostname", "address": registration.name}],
        "nodeInfo": info.system
        | {
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": f"{VERSION}-kedge-v{registration.agent}",
            "kubeProxyVersion": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    } | (_abilities(abilities) if abilities and abilities.handlers else {})


def _abilities(abilities: Abilities) -> Status:
    """What the runtime says that it can do; nothing for a runtime that does not say."""
    handlers = [
        {
            "name": name,
            "features": {
                "recursiveReadOnlyMounts": one.recursive_read_only,
                "userNamespaces": one.user_namespaces,
            },
        }
        for name, one in sorted(abilities.handlers.items())
    ]
    return {
        "runtimeHandlers": handlers,
        "features": {"supplementalGroupsPolicy": abilities.strict_groups},
    }


def conditions(
    pressures: list[node_info.Pressure], problem: str, previous: list[Status], now: float
) -> list[Status]:
    """The node's conditions; a transition keeps its time while the status stays."""
    found = [
        _condition(one.type, holds=one.is_under, reason=one.reason, message=one.message)
        for one in pressures
    ]
    if problem:
        found.append(_condition("Ready", holds=False, reason="KubeletNotReady", message=problem))
    else:
        found.append(
            _condition(
                "Ready", holds=True, reason="KubeletReady", message="kedge is posting ready status"
            )
        )
    earlier = {one["type"]: one for one in previous}
    for one in found:
        same = earlier.get(one["type"])
        kept = same["lastTransitionTime"] if same and same["status"] == one["status"] else None
        one["lastTransitionTime"] = kept or format_time(now)
        one["lastHeartbeatTime"] = format_time(now)
    return found


def image_list(images: list[Image]) -> list[Status]:
    """The largest images as a node's status lists them."""
    ordered = sorted(images, key=lambda one: (-one.size_bytes, one.id))[:MAX_IMAGES]
    return [
        {"names": [*one.digests, *one.tags][:MAX_IMAGE_NAMES], "sizeBytes": one.size_bytes}
        for one in ordered
    ]


def _condition(kind: str, *, holds: bool, reason: str, message: str) -> Status:
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": message,
    }


class NodeReporter:
    """Registers the node and keeps its status current.

    Args:
        registration: what the configuration says of it.
        runtime: asked for its version and conditions.
        reporter: takes the reports.
        facts: what the pods' workers know of the node; kept current here.
        data: a path on the disk that matters.
        storage: the node's local volumes, whose room and names are reported.
        bridge: the node's own pod network, if it is to have one.
        clock: seconds since the epoch.

    ``devices`` is asked for capacity and allocatable of what device plugins offer, ``places`` for labels
    and annotations that volumes' drivers give the node, ``in_use`` for attached volumes, ``pressures`` for its pressure conditions; with ``images`` the largest are reported;
    while there is ``closing`` the node is not ready for that reason.
    """

    def __init__(
        self,
        registration: Registration,
        runtime: ContainerRuntime,
        reporter: Reporter,
        facts: Facts,
        data: Path,
        *,
        storage: local_path.LocalPath | None = None,
        bridge: Bridge | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._runtime = runtime
        self._reporter = reporter
        self._facts = facts
        self._data = data
        self._bridge = bridge
        self._clock = clock
        self._conditions: list[Status] = []
        self._said = ""
        self._said_at = 0.0
        self._registered = ""
        self._places: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._now = asyncio.Event()
        self.pressures: Callable[[], list[node_info.Pressure]] = list
        self.devices: Callable[[], tuple[dict[str, str], dict[str, str]]] = lambda: ({}, {})
        self.places: Callable[[], tuple[dict[str, str], dict[str, str]]] = lambda: ({}, {})
        self.in_use: Callable[[], list[str]] = list
        self.images: Images | None = None
        self._listed: list[Status] = []
        self._images_seen = -1
        self._images_at = 0.0
        self.closing = ""
        self.runtime_version = ""
        self.problem = "the agent has just started"

    def report_now(self) -> None:
        """Reports the status again, with a fresh heartbeat: the cloud may have changed its mind."""
        self._said_at = 0.0
        self._now.set()

    async def run(self) -> None:
        """Looks and reports until cancelled."""
        while True:
            await self.look()
            await wait_at_most(self._now, LOOK_SECONDS if not self.problem else 1.0)
            self._now.clear()

    async def look(self) -> None:
        """Gathers the node's state and reports what is new."""
        info = node_info.read(self._data, reservations=self._registration.reservations)
        self._facts.addresses = info.addresses
        self._facts.allocatable = info.allocatable
        self._facts.memory_bytes = info.memory_bytes
        await self._ask_runtime()
        now = self._clock()
        problem = self.closing or self.problem
        self._conditions = conditions(self.pressures(), problem, self._conditions, now)
        status = node_status(
            self._registration,
            info,
            self._conditions,
            self.runtime_version,
            self._facts.abilities,
        )
        status["images"] = await self._list_images(now)
        if self._storage is not None:
            status = self._storage.describe(status)
        capacity, allocatable = self.devices()
        in_use = [*status.get("volumesInUse", ()), *self.in_use()]
        if in_use:
            status["volumesInUse"] = in_use
        status["capacity"] |= capacity
        status["allocatable"] |= allocatable
        said = json.dumps([_without_heartbeat(status)])
        if said == self._said and now < self._said_at + REPORT_SECONDS and not self._is_moved():
            return
        self._said, self._said_at = said, now
        self._register(info, status)
        self._reporter.node_status(status)

    async def _list_images(self, now: float) -> list[Status]:
        """The largest images; asked for again only after a change, and not often."""
        images = self.images
        if (
            images is not None
            and not self.problem
            and images.changes != self._images_seen
            and now >= self._images_at + IMAGES_SECONDS
        ):
            self._images_seen, self._images_at = images.changes, now
            with contextlib.suppress(RuntimeFailure):
                self._listed = image_list(await self._runtime.list_images())
        return self._listed

    def _is_moved(self) -> bool:
        """Whether drivers say something else of the node's place than they did."""
        before, self._places = self._places, self.places()
        return before != self._places

    def _register(self, info: node_info.NodeInfo, status: Status) -> None:
        node = node_object(self._registration, info, status)
        if self._storage is not None:
            node["metadata"]["annotations"] = {local_path.DIRECTORY: str(self._storage.path)}
        labels, annotations = self.places()
        node["metadata"]["labels"] |= labels
        if annotations:
            node["metadata"]["annotations"] = (
                node["metadata"].get("annotations") or {}
            ) | annotations
        identity = json.dumps([node["metadata"], node["spec"]])
        if identity != self._registered:
            self._registered = identity
            self._reporter.node_registration(node)

    async def _ask_runtime(self) -> None:
        before = self.problem
        try:
            async with asyncio.timeout(RUNTIME_SECONDS):
                version = await self._runtime.version()
                said = f"{version.name}://{version.version}"
                if said != self.runtime_version or before:
                    self._facts.abilities = await self._runtime.abilities()
                self.runtime_version = said
                self._facts.runtime_name = version.name
                failing = [one for one in await self._runtime.status() if not one.status]
                missing = ""
                if self._bridge is not None:
                    is_ready = not any(one.type == "NetworkReady" for one in failing)
                    missing = await self._bridge.ensure(is_ready=is_ready)
            self.problem = missing or "; ".join(
                f"{one.type} is false: {one.message or one.reason}" for one in failing
            )
        except TimeoutError:
            text = f"the container runtime does not answer: not within {RUNTIME_SECONDS:g} s"
            self.problem = text
        except RuntimeFailure as error:
            self.problem = f"the container runtime does not answer: {error}"
        if self.problem != before:
            if self.problem:
                _log.error("the node is not ready: %s", self.problem)
            else:
                _log.info("the node is ready")


def _without_heartbeat(status: Status) -> Status:
    kept = [
        {key: value for key, value in one.items() if key != "lastHeartbeatTime"}
        for one in status["conditions"]
    ]
    return status | {"conditions": kept}
