# SPDX-License-Identifier: Apache-2.0
"""A small CSI driver as a program: its volumes are directories, staged and published by bind mounts.

Honest where a node can tell: it mounts for real, is idempotent, keeps nothing in memory, and refuses what
does not fit. Identity, Node and registration are served at one socket in the registry directory.
``python -m tests.fakes.csi_driver REGISTRY_SOCKET NAME DATA CONTROL``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tests.fakes.plugin_protos import Control, messages, service

csi = messages("csi_v1.proto")
registration = messages("pluginregistration_v1.proto")


def is_mounted(path: str) -> bool:
    return any(
        line.split(" ")[1] == path for line in Path("/proc/self/mounts").read_text().splitlines()
    )


def mount(source: str, target: str, *, read_only: bool = False) -> None:
    Path(target).mkdir(exist_ok=True)
    if not is_mounted(target):
        subprocess.run(["mount", "--bind", source, target], check=True)
    if read_only:
        subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)


def loop_of(file: Path) -> str:
    """The loop device of a file; empty without one."""
    done = subprocess.run(["losetup", "-j", str(file)], capture_output=True, text=True, check=True)
    return done.stdout.partition(":")[0]


def mount_device(file: Path, target: str) -> None:
    """A file as a block device at ``target``."""
    if not file.exists():
        file.touch()
        os.truncate(file, 1 << 20)
    if not loop_of(file):
        subprocess.run(["losetup", "-f", str(file)], check=True)
    Path(target).touch()
    if not is_mounted(target):
        subprocess.run(["mount", "--bind", loop_of(file), target], check=True)


def unmount(target: str) -> None:
    while is_mounted(target):
        subprocess.run(["umount", target], check=True)


class Driver:
    """The driver.

    Args:
        name: its name.
        data: where its volumes are, a directory each.
        control: faults, capabilities, versions.
    """

    def __init__(self, name: str, data: Path, control: Control) -> None:
        self.name = name
        self.data = data
        self.control = control

    def note(self, request: Any, context: Any) -> None:
        method = type(request).__name__.removesuffix("Request")
        fields = {field.name: str(value) for field, value in request.ListFields()}
        maps = {
            one: dict(getattr(request, one))
            for one in ("volume_context", "secrets", "publish_context")
            if hasattr(request, one)
        }
        self.control.note(method, **(fields | maps))
        self.control.obey(method, context)

    def get_info(self, request: Any, context: Any) -> Any:
        versions = self.control.read().get("versions", ["1.0.0"])
        return registration.PluginInfo(
            type="CSIPlugin", name=self.name, supported_versions=versions
        )

    def notify(self, request: Any, context: Any) -> Any:
        self.control.note("Notify", registered=request.plugin_registered, error=request.error)
        return registration.RegistrationStatusResponse()

    def node_info(self, request: Any, context: Any) -> Any:
        topology = csi.Topology(segments={"topology.example/rack": "r1"})
        return csi.NodeGetInfoResponse(
            node_id="node-of-driver", max_volumes_per_node=7, accessible_topology=topology
        )

    def capabilities(self, request: Any, context: Any) -> Any:
        types = self.control.read().get("capabilities", [1, 2, 3])
        found = [csi.NodeServiceCapability(rpc=csi.NodeServiceRpc(type=one)) for one in types]
        return csi.NodeGetCapabilitiesResponse(capabilities=found)

    def stage(self, request: Any, context: Any) -> Any:
        self.note(request, context)
        source = self.data / request.volume_id
        source.mkdir(exist_ok=True)
        if not Path(request.staging_target_path).is_dir():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the staging path is not there")
        mount(str(source), request.staging_target_path)
        return csi.NodeStageVolumeResponse()

    def unstage(self, request: Any, context: Any) -> Any:
        self.note(request, context)
        unmount(request.staging_target_path)
        return csi.NodeUnstageVolumeResponse()

    def publish(self, request: Any, context: Any) -> Any:
        self.note(request, context)
        if request.volume_capability.HasField("block"):
            if self.control.read().get("block", True):
                mount_device(self.data / f"{request.volume_id}.img", request.target_path)
            return csi.NodePublishVolumeResponse()
        source = request.staging_target_path
        if source and not is_mounted(source):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the volume is not staged")
        if not source:
            path = self.data / request.volume_id
            path.mkdir(exist_ok=True)
            source = str(path)
        mount(source, request.target_path, read_only=request.readonly)
        return csi.NodePublishVolumeResponse()

    def unpublish(self, request: Any, context: Any) -> Any:
        self.note(request, context)
        unmount(request.target_path)
        target, file = Path(request.target_path), self.data / f"{request.volume_id}.img"
        if target.is_dir():
            target.rmdir()
        target.unlink(missing_ok=True)
        if file.exists() and (device := loop_of(file)):
            subprocess.run(["losetup", "-d", device], check=True)
        return csi.NodeUnpublishVolumeResponse()

    def stats(self, request: Any, context: Any) -> Any:
        self.note(request, context)
        usage = csi.VolumeUsage(available=60, total=100, used=40, unit=1)
        return csi.NodeGetVolumeStatsResponse(usage=[usage])

    def expand(self, request: Any, context: Any) -> Any:
        self.note(request, context)
        return csi.NodeExpandVolumeResponse(capacity_bytes=request.capacity_range.required_bytes)

    def serve(self, path: Path) -> Any:
        """Listens."""
        server = grpc.server(ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((
            service("pluginregistration.Registration", {
                "GetInfo": (self.get_info, registration.InfoRequest, registration.PluginInfo),
                "NotifyRegistrationStatus": (
                    self.notify, registration.RegistrationStatus,
                    registration.RegistrationStatusResponse,
                ),
            }),
            service("csi.v1.Node", {
                f"Node{name}": (
                    answer, getattr(csi, f"Node{name}Request"), getattr(csi, f"Node{name}Response"),
                )
                for name, answer in {
                    "GetInfo": self.node_info, "GetCapabilities": self.capabilities,
                    "StageVolume": self.stage, "UnstageVolume": self.unstage,
                    "PublishVolume": self.publish, "UnpublishVolume": self.unpublish,
                    "GetVolumeStats": self.stats, "ExpandVolume": self.expand,
                }.items()
            }),
        ))  # fmt: skip
        path.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        return server


def main() -> None:
    path, name, data, control = sys.argv[1:]
    server = Driver(name, Path(data), Control(Path(control))).serve(Path(path))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    server.stop(1).wait()
    Path(path).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
