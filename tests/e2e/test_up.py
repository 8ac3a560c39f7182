# SPDX-License-Identifier: Apache-2.0
"""``kedge up`` as a person runs it, with stock kubectl; without a node, and with one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kedge.edge.network import bridge
from tests.rig.containerd import Containerd
from tests.rig.mounts import mounts_below
from tests.rig.processes import (
    Process,
    children,
    free_port,
    kedge,
    python_module,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: docker.io/library/busybox:latest
        imagePullPolicy: IfNotPresent
        command: [sleep, "1000000"]
"""


class Up:
    """One ``kedge up``."""

    def __init__(self, directory: Path, *more: str) -> None:
        self.directory = directory / "kedge"
        self.more = ["--api-port", str(free_port()), "--hub-port", str(free_port()), *more]
        self.log = directory / "up.log"
        self.process: Process | None = None

    def start(self) -> Process:
        self.process = kedge("up", "--dir", str(self.directory), *self.more, log=self.log)
        return self.process

    def kubectl(self, *words: str, given: str = "") -> str:
        command = ["kubectl", "--kubeconfig", str(self.directory / "kubeconfig"), *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def stop(self) -> int:
        return self.process.stop(40) if self.process else 0

    def unmount(self) -> None:
        """What a node leaves mounted for its running pods."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([one for one in mounts if one.startswith(str(self.directory))]):
            subprocess.run(["umount", mount], check=True)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path, "--no-edge")
    yield up
    up.stop()


def test_without_a_node_kubectl_can_get_and_apply(control: Up) -> None:
    process = control.start()
    wait_until(lambda: "kedge is up" in process.tail(), 20, "kedge is up", alive=process)
    assert "default" in control.kubectl("get", "namespaces")
    assert "deployment.apps/web created" in control.kubectl("apply", "-f", "-", given=DEPLOYMENT)
    wait_until(
        lambda: control.kubectl("get", "pods", "-o", "name").count("pod/web-") == 2, 10, "two pods"
    )
    pods = json.loads(control.kubectl("get", "pods", "-o", "json"))["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Pending"}
    assert (control.directory / "kubeconfig").stat().st_mode & 0o777 == 0o600
    second = kedge("up", "--dir", str(control.directory), "--no-edge", *ports(), log=control.log)
    wait_until(lambda: not second.is_running(), 10, "the second gives up")
    assert second.stop() == 1
    assert "[AlreadyRunning]" in control.log.read_text()
    below = children(process.pid)
    assert len(below) == 2
    assert control.stop() == 0
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def ports() -> list[str]:
    return ["--api-port", str(free_port()), "--hub-port", str(free_port())]


def test_a_killed_role_comes_back_and_nothing_written_is_lost(control: Up) -> None:
    process = control.start()
    wait_until(lambda: "kedge is up" in process.tail(), 20, "kedge is up", alive=process)
    control.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    cluster = next(
        pid
        for pid in children(process.pid)
        if b"kedge.cluster" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(cluster, signal.SIGKILL)
    wait_until(lambda: "cluster was killed by signal 9" in process.tail(), 10, "it was noticed")

    def kept() -> bool:
        try:
            return control.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
        except AssertionError:
            return False

    wait_until(kept, 20, "the cluster is back", alive=process)
    token = python_module(
        "kedge.ctl", "token", "create", "--kubeconfig", str(control.directory / "kubeconfig")
    )
    assert token.count(".") == 3


def status(up: Up) -> dict[str, Any]:
    words = ["status", "--dir", str(up.directory / "edge"), "--json"]
    found: dict[str, Any] = json.loads(python_module("kedge.ctl", *words))
    return found


def running(up: Up) -> int:
    return sum(pod["phase"] == "Running" for pod in status(up)["pods"])


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Containerd]:
    runtime = Containerd(tmp_path / "runtime")
    runtime.start()
    yield runtime
    runtime.stop()


@pytest.mark.timeout(120)
def test_with_a_node_a_deployment_runs_as_containers(
    tmp_path: Path, containerd: Containerd
) -> None:
    up = Up(tmp_path, "--node-name", "local", "--runtime-endpoint", containerd.endpoint)
    process = up.start()
    try:
        wait_until(lambda: "node local is Ready" in process.tail(), 30, "a node", alive=process)
        assert "agent,edge" in up.kubectl("get", "nodes")
        up.kubectl("apply", "-f", "-", given=DEPLOYMENT)
        up.kubectl("rollout", "status", "deployment/web", "--timeout=40s")
        assert len(containerd.running_containers()) == 2
        wait_until(lambda: running(up) == 2, 10, "the status says so")
        assert status(up)["link"]["state"] == "connected"
        assert status(up)["agent"]["running"]
        assert up.stop() == 0
        stopped = python_module("kedge.ctl", "status", "--dir", str(up.directory / "edge"))
        assert "agent     stopped" in stopped
        assert "default/web-" in stopped
        assert len(containerd.running_containers()) == 2
        assert mounts_below(up.directory) == [f"{up.directory}/edge/memory"]
    finally:
        up.stop()
        containerd.stop()
        up.unmount()


@pytest.mark.timeout(120)
def test_when_no_pod_runs_a_node_leaves_nothing_outside_its_directory(
    tmp_path: Path, containerd: Containerd
) -> None:
    up = Up(tmp_path, "--node-name", "clean", "--runtime-endpoint", containerd.endpoint)
    process = up.start()
    try:
        wait_until(lambda: "node clean is Ready" in process.tail(), 30, "a node", alive=process)
        up.kubectl("apply", "-f", "-", given=DEPLOYMENT)
        up.kubectl("rollout", "status", "deployment/web", "--timeout=40s")
        assert mounts_below(up.directory)
        namespaces = containerd.network_namespaces()
        assert len(namespaces) == 2
        uids = {pod["metadata"]["uid"] for pod in pods(up)}
        up.kubectl("delete", "deployment", "web")
        wait_until(lambda: not pods(up), 30, "the pods are gone", alive=process)
        assert up.stop() == 0
        assert mounts_below(up.directory) == []
        assert not (up.directory / "edge" / "memory").exists()
        assert list((up.directory / "edge" / "pods").iterdir()) == []
        assert containerd.all_containers() == []
        assert not [path for path in namespaces if Path(path).exists()]
        assert not [uid for uid in uids if list(Path("/var/log/pods").glob(f"*{uid}*"))]
    finally:
        up.stop()
        containerd.stop()
        up.unmount()


def pods(up: Up) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(up.kubectl("get", "pods", "-o", "json"))["items"]
    return found


@pytest.mark.timeout(120)
def test_a_machine_without_a_pod_network_gets_one(tmp_path: Path) -> None:
    containerd = Containerd(tmp_path / "runtime", network=False)
    containerd.start()
    up = Up(tmp_path, "--node-name", "bare", "--runtime-endpoint", containerd.endpoint)
    process = up.start()
    try:
        wait_until(lambda: "node bare is Ready" in process.tail(), 30, "a node", alive=process)
        up.kubectl("apply", "-f", "-", given=DEPLOYMENT)
        up.kubectl("rollout", "status", "deployment/web", "--timeout=40s")
        addresses = {one["status"]["podIP"] for one in pods(up)}
        assert len(addresses) == 2
        assert all(address.startswith("10.85.") for address in addresses)
        assert bridge.written(up.directory / "edge" / "network") == containerd.directory / "cni"
        up.kubectl("delete", "deployment", "web")
        wait_until(lambda: not pods(up), 30, "the pods are gone", alive=process)
        assert up.stop() == 0
        said = python_module("kedge.ctl", "reset", "--dir", str(up.directory / "edge"), "--yes")
        assert "network" in said
        assert list((containerd.directory / "cni").iterdir()) == []
        assert not Path("/sys/class/net/kedge0").exists()
    finally:
        up.stop()
        subprocess.run(
            ["/usr/sbin/ip", "link", "delete", "kedge0"], capture_output=True, check=False
        )
        containerd.stop()
        up.unmount()
