# SPDX-License-Identifier: Apache-2.0
"""A containerd of our own: its directories, socket, network and images, and nothing left of it after ``stop``.

The limits of test machines are worked round here: lowering oom scores may be refused
(``restrict_oom_score_adj``), there is no registry (images are packed and imported), cgroups may be v1
(the cgroupfs driver). Each instance has its own bridge and subnet, so that several run side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.rig import leftovers
from tests.rig.images import PAUSE_IMAGE, write_archive
from tests.rig.mounts import unmount_below
from tests.rig.processes import Process, wait_until

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NAMESPACE = "k8s.io"
PLUGINS = "/usr/lib/cni"


class Containerd:
    """One instance below ``directory``; without ``network`` it has none until somebody writes one."""

    def __init__(self, directory: Path, *, network: bool = True, plugins: str = PLUGINS) -> None:
        self.directory = directory.absolute()
        self.socket = self.directory / "containerd.sock"
        self.endpoint = f"unix://{self.socket}"
        mark = hashlib.sha256(str(self.directory).encode()).digest()
        self.bridge = f"kd{mark[:5].hex()}"
        self.subnet = f"10.{64 + mark[5] % 64}.{mark[6]}.0/24"
        self._has_network = network
        self._plugins = plugins
        self.link_local = f"169.254.{mark[5]}.{mark[6] % 254 + 1}"
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """containerd's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts containerd and imports the images; returns when CRI answers."""
        with leftovers.alone():
            for directory in leftovers.left_behind():
                Containerd(directory).remove_leftover()
        leftovers.note(self.directory, self.bridge)
        self._configure()
        self._spawn()
        archive = self.directory / "images.tar"
        if not archive.exists():
            write_archive(archive)
            self.ctr("images", "import", str(archive))

    def restart(self) -> None:
        """Ends containerd alone and starts it again; containers go on running."""
        self._end()
        self._spawn()

    def kill(self) -> None:
        """SIGKILL for containerd alone."""
        if self._process is not None:
            self._process.kill()

    def reboot(self) -> None:
        """Leaves what a boot leaves: images, but no container, sandbox or network namespace."""
        self._clear()
        self.restart()

    def stop(self) -> None:
        """Removes all that ran, ends containerd, and takes the instance's files away; the log stays."""
        if not self.directory.exists():
            return
        if self._process is not None:
            if not self._process.is_running():
                self._spawn()
            self._clear()
            self._end()
        for pid in self.shims():
            _kill(pid)
        wait_until(lambda: not self.shims(), 10, "the shims are gone")
        unmount_below(self.directory)
        # An agent that was killed leaves the MetaServer's address behind.
        address = ["ip", "address", "delete", f"{self.link_local}/32", "dev", "lo"]
        for words in (["ip", "link", "delete", self.bridge], address):
            subprocess.run(words, capture_output=True, check=False, env=_env())
        for name in (
            "root",
            "state",
            "cni",
            "cni-data",
            "images.tar",
            "containerd.sock",
            "containerd.sock.ttrpc",
        ):
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        leftovers.strike(self.bridge)

    def remove_leftover(self) -> None:
        """Removes what a killed run left of this instance: its containerd may run or not."""
        for pid in leftovers.processes_of("containerd", str(self.directory / "containerd.toml")):
            _kill(pid)
        self._spawn()
        self.stop()

    def ctr(self, *words: str, check: bool = True) -> str:
        """Runs containerd's own client; its standard output."""
        command = ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=_env(), check=False
        )
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def running_tasks(self) -> list[str]:
        """Ids of running containers and sandboxes."""
        lines = self.ctr("tasks", "list").splitlines()[1:]
        return [line.split()[0] for line in lines if "RUNNING" in line]

    def running_containers(self) -> list[str]:
        """Ids of running containers, sandboxes left out."""
        running = set(self.running_tasks())
        sandboxes = set(
            self.ctr("containers", "list", "-q", 'labels."io.cri-containerd.kind"==sandbox').split()
        )
        return sorted(running - sandboxes)

    def all_containers(self) -> list[str]:
        """Ids of all containers and sandboxes, running or not."""
        return self.ctr("containers", "list", "--quiet").split()

    def labels(self, container: str) -> dict[str, str]:
        """The labels of a container or sandbox; none if it is gone."""
        info = self.ctr("containers", "info", container, check=False)
        found: dict[str, str] = (json.loads(info) if info else {}).get("Labels") or {}
        return found

    def network_namespaces(self) -> set[str]:
        """Paths of the network namespaces that CNI made for containers."""
        found = set()
        for container in self.all_containers():
            spec = json.loads(self.ctr("containers", "info", container)).get("Spec", {})
            for entry in spec.get("linux", {}).get("namespaces", []):
                if entry["type"] == "network" and "/netns/cni-" in entry.get("path", ""):
                    found.add(str(entry["path"]))
        return found

    def shims(self) -> list[int]:
        """The process ids of our shims."""
        return leftovers.processes_of("containerd-shim", str(self.socket))

    def _configure(self) -> None:
        for name in ("root", "state", "cni", "cni-data"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "containerd.toml").write_text(self._toml())
        if self._has_network:
            path = self.directory / "cni" / "10-rig.conflist"
            path.write_text(json.dumps(self._conflist()))

    def _toml(self) -> str:
        where = self.directory
        return f"""version = 2
root = "{where}/root"
state = "{where}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{self.socket}"
[ttrpc]
  address = "{self.socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{self._plugins}"
    conf_dir = "{where}/cni"
"""

    def _conflist(self) -> dict[str, object]:
        bridge = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self.subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": str(self.directory / "cni-data"),
            },
        }
        return {"cniVersion": "0.4.0", "name": f"kedge-{self.bridge}", "plugins": [bridge]}

    def _spawn(self) -> None:
        self._process = Process(
            ["-c", str(self.directory / "containerd.toml")],
            log=self.directory / "containerd.log",
            program=shutil.which("containerd", path=PATH) or "containerd",
        )
        wait_until(self._answers, 30, "containerd answers", alive=self._process)

    def _answers(self) -> bool:
        try:
            plugins = self.ctr("plugins", "list")
        except (subprocess.CalledProcessError, OSError):
            return False
        return any(line.split()[1:2] == ["cri"] and "ok" in line for line in plugins.splitlines())

    def _end(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _clear(self) -> None:
        namespaces = self.network_namespaces()
        for container in self.all_containers():
            self.ctr("tasks", "kill", "--signal", "SIGKILL", "--all", container, check=False)
        for container in self.all_containers():
            self.ctr("tasks", "delete", "--force", container, check=False)
            self.ctr("containers", "delete", container, check=False)
        for path in namespaces:
            command = ["ip", "netns", "delete", Path(path).name]
            subprocess.run(command, capture_output=True, check=False, env=_env())
        data = self.directory / "cni-data"
        for path in data.glob("*/[0-9]*"):
            path.unlink(missing_ok=True)


def _env() -> dict[str, str]:
    return {**os.environ, "PATH": PATH}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
