# SPDX-License-Identifier: Apache-2.0
"""The component that plugins meet: directories and sockets from the start, the rest when one comes.

Below ``root``, named as below the kubelet's directory: ``device-plugins/kubelet.sock`` where device
plugins register, ``plugins_registry`` where CSI drivers present themselves, ``pod-resources/kubelet.sock``
for monitoring agents. A socket that cannot be made is told and the node works without it. Sockets of
plugins in ``device-plugins`` are removed at the start: that tells a plugin to register again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.devices import extended
from kedge.edge.kubelet.plugins.errors import PluginCallError, PluginRefusedError
from kedge.edge.kubelet.plugins.face import PluginClient, PluginServer
from kedge.edge.kubelet.plugins.registry import Registry, sockets
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kedge.edge.kubelet.devices.edits import Edits
    from kedge.edge.kubelet.devices.manager import Devices
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.plugins.registry import Taker
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.runtime.cri import CriRuntime
    from kedge.runtime import Runtime

REGISTER = "/v1beta1.Registration/Register"
DIRECTORY_MODE = 0o750
CHECKPOINT = "devices.json"

_log = logging.getLogger(__name__)


class Plugins:
    """The node's plugins.

    Args:
        root: the directory that has what is shared with plugins.
        data: the agent's own.
        runtime: the process's tokio runtime.
        cri: asked whether it knows CDI.
        recorder: takes Events.

    ``changed`` is told when what plugins offer has changed; ``pods`` is asked for the pods that have not ended; it gives None while they are not all known.
    """

    def __init__(
        self,
        root: Path,
        data: Path,
        runtime: Runtime,
        cri: CriRuntime,
        recorder: Recorder,
    ) -> None:
        self.root = root
        self._data = data
        self._runtime = runtime
        self._cri = cri
        self._recorder = recorder
        self.changed: Callable[[], None] = lambda: None
        self.client = PluginClient(runtime)
        self.pods: Callable[[], list[Pod] | None] = lambda: None
        self.takers: dict[str, Callable[[], Taker]] = {"DevicePlugin": self._device_taker}
        self._devices: Devices | None = None
        self._resolves_cdi: bool | None = None
        self._said: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        if (data / CHECKPOINT).exists():
            # Pods that have devices are asked for before any plugin comes.
            self._manager()

    async def run(self) -> None:
        """Takes plugins until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self.client.run())
            registry = self._directory("plugins_registry")
            if registry is not None:
                group.create_task(Registry(self.client, registry, self._taker, self.spawn).run())
            own = self._directory("device-plugins")
            if own is not None:
                _remove_sockets(own)
                self._listen(own / "kubelet.sock", self._register)
            resources = self._directory("pod-resources")
            if resources is not None:
                self._listen(resources / "kubelet.sock", self._resources)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something for as long as the agent does; a defect in it ends it alone."""
        if self._group is None:
            raise RuntimeError("plugins are not taken yet")
        return self._group.create_task(_guard(work))

    def _directory(self, name: str) -> Path | None:
        path = self.root / name
        try:
            path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as error:
            self._complain(f"{path} cannot be made: {error}")
            return None
        return path

    def _listen(self, path: Path, decide: Callable[[str, dict[str, Any]], Any]) -> None:
        try:
            server = PluginServer(self._runtime, path)
        except KedgeError as error:
            self._complain(str(error))
            return
        self.spawn(server.run(decide))

    def _complain(self, text: str) -> None:
        _log.error("plugins cannot come: %s", text)
        self._recorder.node("PluginsUnavailable", f"plugins cannot come: {text}", warning=True)

    def _taker(self, kind: str) -> Taker | None:
        make = self.takers.get(kind)
        return make() if make is not None else None

    # device plugins

    def counts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Capacity and allocatable of what device plugins offer."""
        return self._devices.counts() if self._devices is not None else ({}, {})

    def _active(self) -> set[str] | None:
        pods = self.pods()
        return None if pods is None else {pod["metadata"]["uid"] for pod in pods}

    async def admit(self, pod: Pod, *, is_running: bool) -> None:
        """Gives a pod its devices, or finds that it has them.

        Raises:
            AdmissionRefusedError: they cannot be had.
            DevicesAwayError: it has them, and their plugin is not back yet.
        """
        if self._devices is not None:
            await self._devices.admit(pod, is_running=is_running)

    async def edits(self, pod: Pod, container: dict[str, Any]) -> Edits | None:
        """What the plugins want of a container that is about to start.

        Raises:
            PluginCallError: a plugin that wants to be told of each start refused or failed.
            CDIError: a CDI device cannot be resolved.
        """
        if self._devices is None or not extended.wanted(container):
            return None
        edits = await self._devices.edits(pod, container)
        if edits is not None and edits["cdi_devices"] and await self._must_resolve_cdi():
            edits = self._resolved(pod, container, edits)
        return edits

    def release(self, uid: str) -> None:
        """Frees the devices of a pod that has ended.

        Raises:
            OSError: the disk does not take it.
        """
        if self._devices is not None:
            self._devices.release(uid)

    def left_over(self) -> list[str]:
        """UIDs of all pods that have devices."""
        return self._devices.left_over() if self._devices is not None else []

    def _resolved(self, pod: Pod, container: dict[str, Any], edits: Edits) -> Edits:
        from kedge.edge.kubelet.devices import cdi  # noqa: PLC0415 - few nodes have CDI devices
        from kedge.edge.kubelet.devices.edits import merged  # noqa: PLC0415 - as above

        names = [one["name"] for one in edits["cdi_devices"]]
        found, unhonoured = cdi.resolve(names)
        for text in unhonoured:
            said = f"{pod['metadata']['uid']} {container['name']} {text}"
            if said not in self._said:
                self._said.add(said)
                self._recorder.pod(
                    pod, "NotHonoured", text, container=container["name"], warning=True
                )
        return merged([edits | {"cdi_devices": []}, found])

    async def _must_resolve_cdi(self) -> bool:
        if self._resolves_cdi is None:
            self._resolves_cdi = not await self._cri.knows_cdi()
        return self._resolves_cdi

    def _manager(self) -> Devices:
        if self._devices is None:
            from kedge.edge.kubelet.devices.manager import Devices  # noqa: PLC0415 - see above

            self._devices = Devices(
                self.client,
                self._data / CHECKPOINT,
                self.spawn,
                lambda: self.changed(),  # noqa: PLW0108 - connected later
                self._active,
            )
        return self._devices

    def _device_taker(self) -> Taker:
        from kedge.edge.kubelet.devices.taker import DeviceTaker  # noqa: PLC0415 - see above

        return DeviceTaker(self._manager(), self.client)

    async def _register(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """A device plugin at our own socket."""
        if method != REGISTER:
            raise PluginCallError(12, f"no such method here: {method}")
        endpoint = request["endpoint"]
        if not endpoint or "/" in endpoint or endpoint in (".", ".."):
            raise PluginRefusedError(f'endpoint: wanted the name of a socket: "{endpoint}"')
        path = self.root / "device-plugins" / endpoint
        self._manager().register(
            request["resource_name"], path, request["version"], request["options"] or {}
        )
        return {}

    async def _resources(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        from kedge.edge.kubelet.devices import pod_resources  # noqa: PLC0415 - when first asked

        if not method.startswith(pod_resources.SERVICE):
            raise PluginCallError(12, f"no such method here: {method}")
        return pod_resources.answer(method, request, self.pods() or [], self._devices)


def _remove_sockets(directory: Path) -> None:
    for path in sockets(directory):
        with suppress(OSError):
            Path(path).unlink()


async def _guard(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # one plugin's odd answer must not end the agent
        _log.exception("a plugin's work ended unexpectedly")
