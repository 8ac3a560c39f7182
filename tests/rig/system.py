# SPDX-License-Identifier: Apache-2.0
"""A whole kedge: control plane, a link that can be delayed, counted and cut, and a node with containerd.

Used by end-to-end tests, the demo and the benches. Everything is a real program started with the
commands that a user has; all of it lives below one directory and is gone after ``stop``.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.rig.api import Api, Watch, is_ready
from tests.rig.containerd import Containerd
from tests.rig.mounts import unmount_below
from tests.rig.processes import Process, free_port, kedge, python_module, wait_until
from tests.rig.proxy import Proxy


class System:
    """One control plane and one node.

    Args:
        directory: an empty or absent directory, which ``stop`` leaves behind with the logs.
        delay_seconds: added to the link, each way.
        node_name: the node's name.
        with_edge: whether to join and start a node.
        with_simulator: whether the link passes through the simulator; without it there are no
            ``delay_seconds``, and nothing to count or cut.
        node_domain: where nodes' kubelets are asked by name.
    """

    def __init__(
        self,
        directory: Path,
        *,
        delay_seconds: float = 0.0,
        node_name: str = "edge-1",
        with_edge: bool = True,
        with_simulator: bool = True,
        node_domain: str = "",
    ) -> None:
        self.directory = directory
        self.node_name = node_name
        self.delay_seconds = delay_seconds
        self.with_edge = with_edge
        self.with_simulator = with_simulator
        self.node_domain = node_domain
        self.api_port = free_port()
        self.hub_port = free_port()
        self.control_dir = directory / "control"
        self.edge_dir = directory / "edge"
        self.kubeconfig = self.control_dir / "kubeconfig"
        self.metaserver_port = free_port()
        self.containerd = Containerd(directory / "runtime")
        self.proxy: Proxy | None = None
        self.control: Process | None = None
        self.edge: Process | None = None
        self._api: Api | None = None

    @classmethod
    @contextmanager
    def temporary(cls, name: str, **options: Any) -> Iterator[Self]:
        """One that runs, in a directory of its own that is removed in the end; ``name`` is for people."""
        with (
            tempfile.TemporaryDirectory(prefix=f"kedge-{name}-") as directory,
            cls(Path(directory), **options) as system,
        ):
            yield system

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def api(self) -> Api:
        """A client of the API server, as the admin."""
        if self._api is None:
            self._api = Api(self.kubeconfig)
        return self._api

    def start(self) -> None:
        """Starts everything; returns when the node is Ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start_control()
        if self.with_edge:
            self.containerd.start()
            if self.with_simulator:
                self.start_link()
            self.join()
            self.start_edge()
            self.wait_node_ready()

    def start_control(self) -> None:
        """Starts the control plane with ``kedge up --no-edge``; returns when it answers."""
        self.control = kedge(
            "up", "--no-edge", "--dir", str(self.control_dir),
            "--api-port", str(self.api_port), "--hub-port", str(self.hub_port),
            *(("--node-domain", self.node_domain) if self.node_domain else ()),
            log=self.directory / "control.log",
        )  # fmt: skip
        wait_until(self._answers, 30, "the API server answers", alive=self.control)

    def _answers(self) -> bool:
        if not self.kubeconfig.exists():
            return False
        try:
            self.api.get("/api/v1/namespaces/kedge-system/secrets?limit=1")
        except Exception:
            return False
        return True

    def start_link(self) -> None:
        """Puts the link simulator between the node and the hub."""
        self.proxy = Proxy(("127.0.0.1", self.hub_port), delay_seconds=self.delay_seconds)
        self.proxy.start()

    def token(self, *options: str) -> str:
        """A join token, from the command a user has."""
        return self.run_kedge(
            "token", "create", "--kubeconfig", str(self.kubeconfig), *options
        ).strip()

    def run_kedge(self, *words: str, check: bool = True) -> str:
        """Runs a ``kedge`` command to its end; what it printed."""
        return python_module("kedge.ctl", *words, check=check)

    def join(self) -> None:
        """Joins the node, through the link simulator if there is one."""
        port = self.hub_port if self.proxy is None else self.proxy.port
        token = wait_until(self._token_or_none, 20, "a token can be made")
        self.run_kedge(
            "join", "--cloud", f"127.0.0.1:{port}", "--token", token,
            "--node-name", self.node_name, "--dir", str(self.edge_dir),
            "--runtime-endpoint", self.containerd.endpoint,
        )  # fmt: skip
        with (self.edge_dir / "edge.yaml").open("a") as file:
            # Several nodes share the test machine.
            file.write(f"metaserverListen: 127.0.0.1:{self.metaserver_port}\n")
            file.write(f"metaserverPodAddress: {self.containerd.link_local}\n")

    def _token_or_none(self) -> str | None:
        try:
            return self.token()
        except subprocess.CalledProcessError:
            return None

    def start_edge(self) -> None:
        """Starts the node agent."""
        self.edge = Process(
            ["-m", "kedge.edge", "--config", str(self.edge_dir / "edge.yaml")],
            log=self.directory / "edge.log",
        )

    def wait_node_ready(self, seconds: float = 60) -> None:
        """Blocks until the API says that the node is Ready."""
        watch = Watch(self.api, "/api/v1/nodes")
        try:
            watch.wait(lambda nodes: is_ready(nodes.get(self.node_name, {})), seconds)
        finally:
            watch.close()

    def kubectl(self, *words: str, check: bool = True) -> str:
        """Runs stock kubectl as the admin; its standard output."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the default namespace, from the API."""
        items: list[dict[str, Any]] = self.api.get("/api/v1/namespaces/default/pods")["items"]
        return items

    def link_bytes(self) -> int:
        """Bytes that crossed the link so far, both ways."""
        assert self.proxy is not None
        return self.proxy.bytes_up + self.proxy.bytes_down

    def cut_link(self) -> None:
        """Ends the link's connections and lets nothing through."""
        assert self.proxy is not None
        self.proxy.cut()

    def restore_link(self) -> None:
        """Lets connections through again."""
        assert self.proxy is not None
        self.proxy.restore()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """The link is cut, and the node knows; at the end it is up again."""
        self.cut_link()
        try:
            wait_until(lambda: not self._is_linked(), 60, "the link is down")
            yield
        finally:
            self.restore_link()
        wait_until(self._is_linked, 60, "the link is up")

    def _is_linked(self) -> bool:
        is_linked: bool = self.status()["link"]["state"] == "connected"
        return is_linked

    def reboot_node(self, *, running: int, seconds: float) -> float:
        """Kills the agent, empties the runtime as a boot leaves it, starts both again.

        Returns:
            Seconds from the agent's start until ``running`` containers run.
        """
        assert self.edge is not None
        self.edge.kill()
        self.containerd.reboot()
        begin = time.monotonic()
        self.start_edge()
        wait_until(
            lambda: len(self.running_containers()) >= running,
            seconds,
            f"{running} containers run",
            poll=0.05,
        )
        return time.monotonic() - begin

    def running_containers(self) -> list[str]:
        """Ids of the containers that run, sandboxes left out, as containerd says."""
        return self.containerd.running_containers()

    def status(self) -> dict[str, Any]:
        """What ``kedge status`` says on the node."""
        text = self.run_kedge("status", "--dir", str(self.edge_dir), "--json")
        found: dict[str, Any] = json.loads(text)
        return found

    def stop(self) -> None:
        """Ends every process, removes what the runtime made; the logs stay in the directory."""
        for process in (self.edge, self.control):
            if process is not None:
                process.stop()
        if self.proxy is not None:
            self.proxy.stop()
        self.containerd.stop()
        unmount_below(self.directory.absolute())
        if self._api is not None:
            self._api.close()
