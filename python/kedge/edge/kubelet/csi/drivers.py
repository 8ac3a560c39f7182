# SPDX-License-Identifier: Apache-2.0
"""CSI drivers of this node: taken when they register, told to the cloud as the node's ``CSINode``."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.plugins.errors import PluginRefusedError
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import plain_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.kubelet.plugins.face import PluginClient

STAGE, STATS, EXPAND, CONDITION, MULTI_WRITER, MOUNT_GROUP = 1, 2, 3, 4, 5, 6
"""Capabilities of a driver's node service."""
MAX_NAME = 63
MAX_NODE_ID = 256
NODE_IDS = "csi.volume.kubernetes.io/nodeid"
"""Annotation of a Node with each driver's name for it."""
REGISTER_SECONDS = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that is registered.

    Attributes:
        name: its name.
        endpoint: of its node service.
        node_id: what it calls this node.
        most: volumes that it can have here; 0 for no limit.
        topology: labels of the node that its volumes may want.
        capabilities: numbers of what it can do.
    """

    name: str
    endpoint: str
    node_id: str
    most: int = 0
    topology: dict[str, str] = field(default_factory=dict)
    capabilities: frozenset[int] = frozenset()


class Drivers:
    """All of them.

    Args:
        client: calls them.
        changed: told with the drivers when one came, went or changed.
    """

    def __init__(self, client: PluginClient, changed: Callable[[Drivers], None]) -> None:
        self._client = client
        self._changed = changed
        self._drivers: dict[str, Driver] = {}

    async def taken(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Registers a driver.

        Raises:
            KedgeError: why not.
        """
        if not any(one.removeprefix("v").partition(".")[0] == "1" for one in versions):
            raise PluginRefusedError(
                f"CSI driver {name}: wanted a version 1.x of CSI: {', '.join(versions) or 'none'}"
            )
        if len(name) > MAX_NAME:
            raise PluginRefusedError(
                f"CSI driver: wanted a name of at most {MAX_NAME} characters: {name}"
            )
        try:
            plain_name(name)
        except VolumeError as error:
            raise PluginRefusedError(f"CSI driver: {error}") from error
        info = await self._client.call(endpoint, "NodeGetInfo", {}, REGISTER_SECONDS)
        if not info["node_id"] or len(info["node_id"]) > MAX_NODE_ID:
            raise PluginRefusedError(f"CSI driver {name}: NodeGetInfo: wanted a node_id")
        found = await self._client.call(endpoint, "NodeGetCapabilities", {}, REGISTER_SECONDS)
        topology = info["accessible_topology"] or {}
        self._drivers[name] = Driver(
            name,
            endpoint,
            info["node_id"],
            info["max_volumes_per_node"],
            topology.get("segments") or {},
            frozenset(one["rpc"]["type"] for one in found["capabilities"] if one["rpc"]),
        )
        self._changed(self)

    def gone(self, name: str, endpoint: str) -> None:
        """A driver's registration socket has gone."""
        known = self._drivers.get(name)
        if known is not None and known.endpoint == endpoint:
            del self._drivers[name]
            self._client.forget(endpoint)
            self._changed(self)

    def get(self, name: str) -> Driver | None:
        """The driver, if it is registered."""
        return self._drivers.get(name)

    def find(self, name: str) -> Driver:
        """The driver.

        Raises:
            VolumeError: it is not registered.
        """
        found = self._drivers.get(name)
        if found is None:
            raise not_registered(name)
        return found

    def node_drivers(self) -> list[dict[str, Any]]:
        """``spec.drivers`` of the node's CSINode."""
        return [
            {"name": one.name, "nodeID": one.node_id, "topologyKeys": sorted(one.topology)}
            | ({"allocatable": {"count": one.most}} if one.most > 0 else {})
            for one in sorted(self._drivers.values(), key=lambda one: one.name)
        ]

    def annotations(self) -> dict[str, str]:
        """What the Node has of them."""
        ids = {one.name: one.node_id for one in self._drivers.values()}
        return {NODE_IDS: json.dumps(ids, sort_keys=True, separators=(",", ":"))} if ids else {}

    def labels(self) -> dict[str, str]:
        """The node's place, as the drivers say."""
        found: dict[str, str] = {}
        for one in self._drivers.values():
            found |= one.topology
        return found


def not_registered(name: str) -> VolumeError:
    """That a driver is not there, in the kubelet's words."""
    return VolumeError(f"driver name {name} not found in the list of registered CSI drivers")
