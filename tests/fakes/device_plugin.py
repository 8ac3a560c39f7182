# SPDX-License-Identifier: Apache-2.0
"""A device plugin v1beta1 as a program: real gRPC on real sockets, told by a file what to do.

It behaves as plugins are told to: serves first, registers then, and registers again when the node's
socket is made anew. ``python -m tests.fakes.device_plugin DIRECTORY RESOURCE CONTROL``.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tests.fakes.plugin_protos import Control, call, messages, service

api = messages("deviceplugin_v1beta1.proto")


class DevicePlugin:
    """Offers what ``devices`` of the control file lists, by id and health."""

    def __init__(self, directory: Path, resource: str, control: Control) -> None:
        self.directory = directory
        self.resource = resource
        self.control = control
        self.socket = directory / f"{resource.replace('/', '-')}.sock"

    def options(self) -> Any:
        """As registered."""
        settings = self.control.read()
        return api.DevicePluginOptions(
            pre_start_required=settings.get("preStart", False),
            get_preferred_allocation_available="prefer" in settings,
        )

    def list_and_watch(self, _request: Any, context: Any) -> Any:
        """A list whenever the control file has another one."""
        said = None
        while context.is_active():
            devices = self.control.read().get("devices", {})
            if devices != said:
                said = devices
                yield api.ListAndWatchResponse(
                    devices=[
                        api.Device(
                            id=name,
                            health=health,
                            topology=api.TopologyInfo(nodes=[api.NumaNode(id=0)]),
                        )
                        for name, health in devices.items()
                    ]
                )
            time.sleep(0.05)

    def prefer(self, request: Any, context: Any) -> Any:
        """The devices named first in ``prefer``."""
        self.control.obey("GetPreferredAllocation", context)
        wanted = self.control.read()["prefer"]
        one = request.container_requests[0]
        ids = [each for each in wanted if each in one.available_device_ids]
        self.control.note("GetPreferredAllocation", available=list(one.available_device_ids))
        answer = api.ContainerPreferredAllocationResponse(device_ids=ids[: one.allocation_size])
        return api.PreferredAllocationResponse(container_responses=[answer])

    def allocate(self, request: Any, context: Any) -> Any:
        """Variables, a mount, a device, an annotation, and CDI devices if asked for."""
        ids = list(request.container_requests[0].device_ids)
        self.control.note("Allocate", ids=ids)
        self.control.obey("Allocate", context)
        settings = self.control.read()
        one = api.ContainerAllocateResponse(
            envs={"DEVICE_IDS": ",".join(ids)},
            annotations={"devices.example/ids": ",".join(ids)},
            devices=[
                api.DeviceSpec(container_path="/dev/thing", host_path="/dev/null", permissions="rw")
            ],
            cdi_devices=[api.CdiDevice(name=name) for name in settings.get("cdi", [])],
        )
        if "mount" in settings:
            one.mounts.append(
                api.Mount(container_path="/driver", host_path=settings["mount"], read_only=True)
            )
        return api.AllocateResponse(container_responses=[one])

    def pre_start(self, request: Any, context: Any) -> Any:
        """Notes it."""
        self.control.note("PreStartContainer", ids=list(request.device_ids))
        self.control.obey("PreStartContainer", context)
        return api.PreStartContainerResponse()

    def serve(self) -> grpc.Server:
        """Listens at the plugin's own socket."""
        server = grpc.server(ThreadPoolExecutor(8))
        unary = service(
            "v1beta1.DevicePlugin",
            {
                "GetDevicePluginOptions": (
                    lambda *_: self.options(),
                    api.Empty,
                    api.DevicePluginOptions,
                ),
                "GetPreferredAllocation": (
                    self.prefer,
                    api.PreferredAllocationRequest,
                    api.PreferredAllocationResponse,
                ),
                "Allocate": (self.allocate, api.AllocateRequest, api.AllocateResponse),
                "PreStartContainer": (
                    self.pre_start,
                    api.PreStartContainerRequest,
                    api.PreStartContainerResponse,
                ),
            },
        )
        watch = grpc.unary_stream_rpc_method_handler(
            self.list_and_watch,
            request_deserializer=api.Empty.FromString,
            response_serializer=api.ListAndWatchResponse.SerializeToString,
        )
        streaming = grpc.method_handlers_generic_handler(
            "v1beta1.DevicePlugin", {"ListAndWatch": watch}
        )
        server.add_generic_rpc_handlers((_Both(unary, streaming),))
        self.socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self.socket}")
        server.start()
        return server

    def register(self, authority: str = "") -> str:
        """Registers; what went wrong, if anything."""
        version = self.control.read().get("version", "v1beta1")
        request = api.RegisterRequest(
            version=version,
            endpoint=self.socket.name,
            resource_name=self.resource,
            options=self.options(),
        )
        options = [("grpc.default_authority", authority)] if authority else []
        with grpc.insecure_channel(f"unix:{self.directory}/kubelet.sock", options) as channel:
            try:
                call(channel, "/v1beta1.Registration/Register", request, api.Empty)
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"
        return ""

    def run(self) -> None:
        """Serves and registers, again whenever the node's socket or its own is another one."""
        known: tuple[int, float] | None = None
        server: grpc.Server | None = None
        while True:
            try:
                facts = (self.directory / "kubelet.sock").stat()
            except FileNotFoundError:
                time.sleep(0.05)
                continue
            mark = (facts.st_ino, facts.st_mtime)
            if mark != known or not self.socket.exists():
                if server is not None:
                    server.stop(0)
                server = self.serve()
                # As Go's gRPC names a server on a Unix socket.
                error = self.register("%2Fvar%2Flib%2Fkubelet%2Fdevice-plugins%2Fkubelet.sock")
                self.control.note("Register", error=error)
                known = None if error.startswith("UNAVAILABLE") else mark
            time.sleep(0.05)


class _Both(grpc.GenericRpcHandler):
    """Unary methods and the streaming one under one service name."""

    def __init__(self, *handlers: grpc.GenericRpcHandler) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Any:
        for handler in self._handlers:
            found = handler.service(handler_call_details)
            if found is not None:
                return found
        return None


if __name__ == "__main__":
    DevicePlugin(Path(sys.argv[1]), sys.argv[2], Control(Path(sys.argv[3]))).run()
