# SPDX-License-Identifier: Apache-2.0
"""A node without a cloud: containerd, the agent, and a store that the test fills while no agent runs.

The store is held by the agent's process; tests write to it before the agent starts, or through
``changed``, which stops the agent for the write as a crash would. Reports are read the same way.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kedge import config
from kedge.api.keys import ObjectKey
from kedge.edge.config import EdgeConfig
from kedge.store import Op, Store, delete, put
from tests.rig.containerd import Containerd
from tests.rig.mounts import unmount_below
from tests.rig.processes import Process, free_port, wait_until

RESOURCES = {
    "Pod": "pods",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
}
CLUSTER_WIDE = {
    "CSIDriver": ("storage.k8s.io", "csidrivers"),
    "RuntimeClass": ("node.k8s.io", "runtimeclasses"),
    "PersistentVolume": ("", "persistentvolumes"),
}


class EdgeNode:
    """One node below ``directory``.

    Args:
        directory: an empty or absent one.
        name: the node's.
        containerd: one that runs already and others use too; else the node has its own.
        settings: more of the agent's settings.
        own: how the node's own containerd is to be, as ``Containerd`` takes it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "edge-1",
        containerd: Containerd | None = None,
        settings: dict[str, Any] | None = None,
        **own: Any,
    ) -> None:
        self.directory = directory
        self.name = name
        self.data = directory / "edge"
        self.logs = directory / "pods-logs"
        self._is_shared = containerd is not None
        self.containerd = containerd or Containerd(directory / "runtime", **own)
        self.settings = settings or {}
        self.metaserver_port = free_port()
        self.agent: Process | None = None

    @classmethod
    @contextmanager
    def temporary(cls, **options: Any) -> Iterator[EdgeNode]:
        """One in a directory of its own; nothing is mounted there, and it is gone, in the end."""
        directory = Path(tempfile.mkdtemp(prefix="kedge-e2e-"))
        try:
            with cls(directory, **options) as node:
                yield node
        finally:
            unmount_below(directory)
            shutil.rmtree(directory, ignore_errors=True)

    def __enter__(self) -> EdgeNode:
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            (self.data / "node.seal").write_bytes(bytes(range(32)))
            if not self._is_shared:
                self.containerd.start()
            self.configure()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def configure(self, **more: Any) -> None:
        """Writes the agent's settings, with ``more`` beside what the rig needs."""
        settings = (
            more
            | {
                "nodeName": self.name,
                "dataDir": str(self.data),
                "logsDir": str(self.logs),
                "runtimeEndpoint": self.containerd.endpoint,
                "metaserverListen": f"127.0.0.1:{self.metaserver_port}",
                "metaserverPodAddress": self.containerd.link_local,
            }
            | self.settings
        )
        (self.data / "edge.yaml").write_text(json.dumps(settings))

    def start(self) -> None:
        """Starts the agent."""
        self.agent = Process(
            ["-m", "kedge.edge", "--config", str(self.data / "edge.yaml")],
            log=self.directory / "agent.log",
        )

    def crash(self, point: str, seconds: float = 30) -> None:
        """Starts the agent's test build, which kills itself at a fault point, and waits for that."""
        settings = asdict(config.load(EdgeConfig, self.data / "edge.yaml", {}))
        note = self.directory / "note"
        note.unlink(missing_ok=True)
        words = [point, json.dumps(settings, default=str), str(note)]
        agent = self.agent = Process(
            ["-m", "tests.rig.faulty_agent", *words], log=self.directory / "agent.log"
        )
        wait_until(lambda: not agent.is_running(), seconds, f"it is killed at {point}")
        assert agent.stop() == -signal.SIGKILL, agent.tail()
        assert note.read_text() == point

    def kill(self) -> None:
        """SIGKILL for the agent."""
        if self.agent is not None:
            self.agent.kill()

    def end(self) -> None:
        """SIGTERM for the agent, which writes what it still has to say."""
        if self.agent is not None:
            status = self.agent.stop()
            assert status == 0, f"the agent ended with {status}:\n{self.agent.tail()}"

    def stop(self) -> None:
        """Ends everything; removes what the runtime made."""
        if self.agent is not None:
            self.agent.stop()
        if not self._is_shared:
            self.containerd.stop()

    def change(
        self,
        *objects: dict[str, Any],
        deleted: tuple[dict[str, Any], ...] = (),
        complete: bool = True,
    ) -> None:
        """Writes to the store; the agent must not run."""
        operations = [put(key_of(one), json.dumps(one).encode()) for one in objects]
        self.write(operations + [delete(key_of(one)) for one in deleted], complete=complete)

    def write(self, operations: list[Op], *, complete: bool = True) -> None:
        """Applies operations of the store; the agent must not run."""
        store = self._open()
        try:
            store.commit_now(operations)
            if complete:
                (self.data / "store.complete").write_text(str(store.store_id))
        finally:
            store.close()

    def changed(self, *objects: dict[str, Any], deleted: tuple[dict[str, Any], ...] = ()) -> None:
        """Kills the agent, writes to the store, starts the agent."""
        self.kill()
        self.change(*objects, deleted=deleted)
        self.start()

    def _open(self) -> Store:
        return Store.open(
            self.data / "store", mode="replica", seal_key=(self.data / "node.seal").read_bytes()
        )

    def reports(self, resource: str) -> dict[str, dict[str, Any]]:
        """Reports by object name; the agent must not run."""
        store = self._open()
        try:
            return {
                item.key.name: json.loads(item.value) for item in store.list("", resource).items
            }
        finally:
            store.close()

    def status(self) -> dict[str, Any]:
        """What the agent last wrote about itself."""
        try:
            found: dict[str, Any] = json.loads((self.data / "status.json").read_text())
        except FileNotFoundError:
            return {"pods": []}
        return found

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods of the agent's status by name."""
        return {one["name"]: one for one in self.status()["pods"]}

    def wait(self, check: Any, what: str, seconds: float = 20) -> None:
        """Waits while the agent runs."""
        wait_until(check, seconds, what, poll=0.02, alive=self.agent)

    def log(self, pod: dict[str, Any], container: str = "main", attempt: int = 0) -> str:
        """What a container wrote."""
        metadata = pod["metadata"]
        directory = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        path = self.logs / directory / container / f"{attempt}.log"
        return path.read_text() if path.exists() else ""

    def cgroup(self, pod: dict[str, Any], controller: str, above: str = "") -> Path | None:
        """A pod's cgroup in one hierarchy, wherever its class has it."""
        root = Path("/sys/fs/cgroup") / controller / above.lstrip("/") / "kubepods"
        if not root.is_dir():
            root = Path("/sys/fs/cgroup") / above.lstrip("/") / "kubepods"
        return next(root.glob(f"**/pod{pod['metadata']['uid']}"), None)

    def execute(self, container: str, *command: str) -> str:
        """Runs a command in a container, by containerd's own client."""
        return self.containerd.ctr("tasks", "exec", "--exec-id", "test", container, *command)


def key_of(one: dict[str, Any]) -> ObjectKey:
    """The key of an object."""
    if one["kind"] in CLUSTER_WIDE:
        return ObjectKey(*CLUSTER_WIDE[one["kind"]], "", one["metadata"]["name"])
    return ObjectKey(
        "", RESOURCES[one["kind"]], one["metadata"]["namespace"], one["metadata"]["name"]
    )
