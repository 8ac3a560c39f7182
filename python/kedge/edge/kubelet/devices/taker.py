# SPDX-License-Identifier: Apache-2.0
"""Takes device plugins that come by the registry directory instead of our socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kedge.edge.kubelet.devices.manager import VERSION, Devices

if TYPE_CHECKING:
    from kedge.edge.kubelet.plugins.face import PluginClient


class DeviceTaker:
    """Registers them.

    Args:
        devices: the node's device plugins.
        client: asks them.
    """

    def __init__(self, devices: Devices, client: PluginClient) -> None:
        self._devices = devices
        self._client = client

    async def taken(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Registers a plugin.

        Raises:
            KedgeError: why not.
        """
        options = await self._client.call(endpoint, "GetDevicePluginOptions", {})
        version = VERSION if VERSION in versions else ", ".join(versions)
        self._devices.register(name, Path(endpoint), version, options)

    def gone(self, name: str, endpoint: str) -> None:
        """Its registration socket has gone; the end of its list says when the plugin has."""
