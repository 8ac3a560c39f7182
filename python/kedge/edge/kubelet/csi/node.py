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


class CsiNode:
    """The node's drivers and volumes.

    Args:
        plugins: where drivers come.
        pods: one directory per pod UID.
        node: this node's name.
        reporter: takes the CSINode.
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
        self._said: set[tuple[str, str]] = set()
        self.drivers = Drivers(plugins.client, self._changed)
        layout = Layout(pods, plugins.root)
        self.volumes = CsiVolumes(
            plugins.client,
            self.drivers,
            layout,
            node,
            plugins.spawn,
            complain=self._complain,
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

    def _complain(self, pod: dict[str, Any], text: str) -> None:
        said = (pod["metadata"]["uid"], text)
        if said not in self._said:
            self._said.add(said)
            self._recorder.pod(pod, "NotHonoured", text, warning=True)
