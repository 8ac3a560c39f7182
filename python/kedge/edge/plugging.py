# SPDX-License-Identifier: Apache-2.0
"""Connects the node's plugins with the agent's other components; CSI is loaded when it is first wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kedge.edge.kubelet.admission.device_admission import plugins_changed
from kedge.edge.kubelet.plugins.plugins import Plugins

if TYPE_CHECKING:
    from kedge.edge.app import Agent
    from kedge.edge.config import EdgeConfig
    from kedge.edge.kubelet.csi.node import CsiNode
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.volumes.sources import Figures
    from kedge.edge.runtime.cri import CriRuntime
    from kedge.runtime import Runtime

CSI_DIRECTORY = "kubernetes.io~csi"


def plugins(
    config: EdgeConfig, runtime: Runtime, cri: CriRuntime, recorder: Recorder
) -> Plugins | None:
    """The node's plugins, unless the configuration wants none."""
    if not config.plugins:
        return None
    data = config.data_dir.absolute()
    root = Path(config.kubelet_dir) if config.kubelet_dir else data
    return Plugins(root, data, runtime, cri, recorder)


def connect(agent: Agent, plugins: Plugins, config: EdgeConfig) -> None:
    """Lets the agent's components and its plugins know each other."""
    made: list[CsiNode] = []
    pods = config.data_dir.absolute() / "pods"
    # What an earlier agent mounted is in use before anything asks for it.
    has_volumes = next(pods.glob(f"*/volumes/{CSI_DIRECTORY}/*"), None) is not None

    def changed() -> None:
        agent.node.report_now()
        plugins_changed(agent.pods.workers())

    def csi() -> CsiNode:
        if not made:
            from kedge.edge.kubelet.csi.node import CsiNode  # noqa: PLC0415 - see above

            made.append(
                CsiNode(
                    plugins,
                    pods,
                    config.node_name,
                    agent.reporter,
                    agent.recorder,
                    changed,
                    agent.node.report_now,
                )
            )
        return made[0]

    def in_use() -> list[str]:
        return csi().volumes.in_use() if made or has_volumes else []

    def active() -> list[Pod] | None:
        if not agent.pods.is_complete:
            return None
        return [one.pod for one in agent.pods.workers() if not one.is_wound_down()]

    def places() -> tuple[dict[str, str], dict[str, str]]:
        return (made[0].drivers.labels(), made[0].drivers.annotations()) if made else ({}, {})

    async def usage(uid: str) -> dict[str, Figures]:
        return await csi().volumes.usage(uid)

    plugins.changed = changed
    plugins.pods = active
    plugins.takers["CSIPlugin"] = lambda: csi().drivers
    agent.volumes.plug("csi", CSI_DIRECTORY, lambda: csi().volumes)
    agent.volumes.usage = usage
    agent.node.devices = plugins.counts
    agent.node.places = places
    agent.node.in_use = in_use
