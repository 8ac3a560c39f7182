# SPDX-License-Identifier: Apache-2.0
"""The node's resources, put together from the settings: cgroups, reservations, eviction, shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from kedge.edge.kubelet.node import node_info
from kedge.edge.kubelet.node.reservations import Reservations, all_pods
from kedge.edge.kubelet.pressure.manager import PressureManager, Settings
from kedge.edge.kubelet.resources.cgroups import Cgroups, Names, page_sizes, protect_agent
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from kedge.edge.config import EdgeConfig
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.node.node import NodeReporter
    from kedge.edge.kubelet.node.shutdown import Shutdown
    from kedge.edge.kubelet.pods import Pods
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.runtime import ContainerRuntime

DRIVER_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Upkeep:
    """One for the node.

    Args:
        config: the settings.
        recorder: told what cannot be enforced.
    """

    def __init__(self, config: EdgeConfig, recorder: Recorder) -> None:
        self._config = config
        self._recorder = recorder
        self._shutdown: Shutdown | None = None
        self.cgroups = Cgroups(
            Names(config.cgroup_driver == "systemd", config.cgroup_root),
            config.pod_pids_limit,
            complain=self._complain,
        )
        thresholds = config.eviction_thresholds()
        self.reservations = Reservations(config.system_reserved, config.kube_reserved, thresholds)

    def attach(self, tools: Tools, pods: Pods, node: NodeReporter) -> None:
        """Meets those whose pods it ends and whose conditions it gives."""
        self._tools, self._pods, self._node = tools, pods, node
        disk = self._config.data_dir
        settings = pressure_settings(self._config)
        self.pressure = PressureManager(settings, tools, pods, disk, node.report_now)
        node.pressures = self.pressure.pressures
        node.images = tools.images

    async def begin(self, runtime: ContainerRuntime) -> None:
        """Makes the node's cgroups and takes a first look, before any pod is worked on."""
        protect_agent()
        if not self._config.cgroup_driver:
            is_systemd = await _cgroup_driver(runtime) == "systemd"
            self.cgroups.names = Names(is_systemd, self._config.cgroup_root)
        info = node_info.read(self._config.data_dir, reservations=self.reservations)
        facts = self._tools.facts
        facts.allocatable, facts.memory_bytes = info.allocatable, info.memory_bytes
        self.cgroups.huge_page_sizes = page_sizes(info.capacity)
        most_pids, _ = node_info.process_ids()
        await self.cgroups.begin(all_pods(info.amounts, self.reservations, most_pids))
        await self.pressure.look()

    def run(self, group: asyncio.TaskGroup) -> None:
        """Starts what watches: resources, logind if it is configured, and SIGPWR."""
        group.create_task(self.pressure.run())

        def asked() -> None:
            group.create_task(self._make_shutdown().end_pods())

        asyncio.get_running_loop().add_signal_handler(signal.SIGPWR, asked)
        if self._config.shutdown_grace_period_seconds:
            group.create_task(self._make_shutdown().listen())

    def _make_shutdown(self) -> Shutdown:
        if self._shutdown is None:
            from kedge.edge.kubelet.node.shutdown import Shutdown  # noqa: PLC0415 - seldom needed

            seconds = self._config.shutdown_grace_period_seconds
            critical = self._config.shutdown_grace_period_critical_pods_seconds
            self._shutdown = Shutdown(seconds, critical, self._pods, self._node, self._recorder)
        return self._shutdown

    def _complain(self, text: str) -> None:
        _log.warning("%s", text)
        self._recorder.node("FailedNodeAllocatableEnforcement", text, warning=True)


async def _cgroup_driver(runtime: ContainerRuntime) -> str:
    """What the runtime says, else what the node has; waits for the runtime a little."""
    try:
        async with asyncio.timeout(DRIVER_SECONDS):
            found = await runtime.cgroup_driver()
    except (OSError, TimeoutError, KedgeError):
        found = None
    return found or "cgroupfs"


def pressure_settings(config: EdgeConfig) -> Settings:
    """What of the configuration says when things and pods have to go."""
    return Settings(
        thresholds=config.eviction_thresholds(),
        transition_seconds=config.eviction_transition_seconds,
        most_grace_seconds=config.eviction_max_pod_grace_seconds,
        image_high_percent=config.image_gc_high_threshold_percent,
        image_low_percent=config.image_gc_low_threshold_percent,
        image_minimum_age_seconds=config.image_minimum_gc_age_seconds,
        image_maximum_age_seconds=config.image_maximum_gc_age_seconds,
        dead_containers=config.max_dead_containers,
        dead_age_seconds=config.minimum_dead_container_age_seconds,
    )
