# SPDX-License-Identifier: Apache-2.0
"""CSI of one node put together: drivers, their volumes, and what the cloud is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.csi.drivers import Driver, Drivers
from kedge.edge.kubelet.csi.source import CsiVolumes
from kedge.edge.kubelet.csi.state import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.plugins.plugins import Plugins
    from kedge.edge.kubelet.reports import Reporter

MAX_SAID = 1024


class CsiNode:
    """The node's drivers and volumes.

    Args:
        plugins: where drivers come.
        pods: one directory per pod UID.
        node: this node's name.
        reporter: takes the CSINode, and claims that have grown.
        recorder: takes Events.
        changed: told when a driver came or went.
        in_use_changed: told when other attached volumes are in use.
    """

    def __init__(  # noqa: PLR0917 - what it connects
        self,
        plugins: Plugins,
        pods: Path,
        node: str,
        reporter: Reporter,
        recorder: Recorder,
        changed: Callable[[], None],
        in_use_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._plugins = plugins
        self._reporter = reporter
        self._recorder = recorder
        self._tell = changed
        self._known: dict[str, Driver] = {}
        self._said: dict[tuple[str, str], str] = {}
        self.drivers = Drivers(plugins.client, self._changed)
        layout = Layout(pods, plugins.root)
        self.volumes = CsiVolumes(
            plugins.client,
            self.drivers,
            layout,
            node,
            plugins.spawn,
            tell=self._event,
            report=reporter.claim_size,
            changed=in_use_changed,
        )

    def _changed(self, drivers: Drivers) -> None:
        self._reporter.csi_node(drivers.node_drivers())
        for name in [one["name"] for one in drivers.node_drivers()]:
            driver = drivers.find(name)
            if self._known.get(name) is not driver:
                self._known[name] = driver
                self._plugins.spawn(self.volumes.sweep(driver))
        self._tell()

    def _event(self, pod: dict[str, Any], reason: str, text: str) -> None:
        """An Event of a pod; each once, until it says something else."""
        said = (pod["metadata"]["uid"], reason)
        if self._said.get(said) != text:
            self._said[said] = text
            self._recorder.pod(pod, reason, text, warning=not reason.endswith("Successful"))
            while len(self._said) > MAX_SAID:
                self._said.pop(next(iter(self._said)))
