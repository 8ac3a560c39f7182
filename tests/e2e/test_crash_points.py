# SPDX-License-Identifier: Apache-2.0
"""The agent killed at every named step: afterwards the runtime equals the store, no more and no less.

Every fault point of the source (``kedge.faults``) is taken in turn, three nodes on one containerd at a
time. A node's round: pods are started by an agent that kills itself at one point and finished by an ordinary
one; then they are ended by an agent that kills itself at another point, and finished by an ordinary one. After
each the runtime, the mounts, cgroups, files and reports are compared with what the store wants. Containers
of others lie in the same containerd all the time, and must not be touched.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.direct_cri import connected
from kedge.edge.config import EdgeConfig
from kedge.edge.kubelet import labels
from kedge.edge.runtime.cri import CriRuntime
from tests.fakes.registry import Registry
from tests.rig import fault_points, local, runtime_view
from tests.rig.containerd import Containerd
from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container
from tests.rig.images import IMAGE
from tests.rig.mounts import mounts_below, unmount_below
from tests.rig.processes import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

LANES = 3
STEP_SECONDS = 30.0
ASKED = ("+30", "+90")
"""Where a call to the runtime is asked for, the agent is killed while it is under way, too."""
UNDER_WAY = frozenset(
    {"pod.sandbox.asked", "container.files.made", "container.start.asked", "pod.sandbox.stop.asked"}
)
FIRST = {"container.removed": "container.created"}
"""Points that only an agent reaches that comes after a crash at another point."""
SETTINGS = {"containerLogMaxSize": "16Ki", "containerLogMaxFiles": 3}


@dataclass
class Round:
    """The objects of one round of one lane."""

    number: int
    lane: int
    registry: str
    counted: Path
    deleted_from_store: bool = False

    def uid(self, index: int) -> str:
        return f"{self.lane:08d}-0000-0000-{self.number:04d}-{index:012d}"

    @property
    def uids(self) -> set[str]:
        return {self.uid(1), self.uid(2)}

    def objects(self) -> list[dict[str, Any]]:
        metadata = {"name": "settings", "namespace": "default"}
        return [
            {"kind": "ConfigMap", "metadata": metadata, "data": {"mode": "fast"}},
            {"kind": "Secret", "metadata": metadata, "data": {"password": "czNjcmV0"}},
            *self._claim(),
            *self.pods(),
        ]

    def _claim(self) -> list[dict[str, Any]]:
        """A claim and its volume of the built-in provisioner, new in each round."""
        name, uid = f"pv-{self.lane}-{self.number}", f"claim-{self.lane}-{self.number}"
        notes = {"pv.kubernetes.io/provisioned-by": "kedge.io/local-path"}
        return [
            {
                "kind": "PersistentVolume",
                "metadata": {"name": name, "annotations": notes},
                "spec": {"claimRef": {"uid": uid}, "local": {"path": f"/{name}"}},
            },
            {
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data", "namespace": "default", "uid": uid},
                "spec": {"volumeName": name},
                "status": {"phase": "Bound"},
            },
        ]

    def pods(self) -> list[dict[str, Any]]:
        return [self._server(), self._job()]

    def _pod(self, index: int, name: str, **spec: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "default", "uid": self.uid(index)}
        spec |= {"terminationGracePeriodSeconds": 1, "nodeName": f"lane-{self.lane}"}
        return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}

    def _server(self) -> dict[str, Any]:
        mounts = [
            {"name": name, "mountPath": f"/{name}"}
            for name in ("settings", "key", "all", "work", "fast", "data", "host")
        ]
        mounts.insert(0, {"name": "work", "mountPath": "/part", "subPath": "a/part"})
        talks = "n=0; while [ $n -lt 600 ]; do echo a line of a log that is to be rotated soon; n=$((n+1)); done"
        main = container(
            f"stat -c %a /work /fast > /host/modes; touch /host/ready; {talks}; trap 'exit 0' TERM; sleep 1000000 & wait",
            image=f"{self.registry}/lane{self.lane}/round{self.number}:1",
            lifecycle={
                "postStart": {"exec": {"command": ["true"]}},
                "preStop": {"exec": {"command": ["true"]}},
            },
            volumeMounts=mounts,
        )
        first = container("echo once >> /host/first", "first", volumeMounts=mounts[-1:])
        return self._pod(
            1,
            "server",
            initContainers=[first],
            containers=[main],
            volumes=[
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "key", "secret": {"secretName": "settings"}},
                {"name": "all", "projected": {"sources": [{"configMap": {"name": "settings"}}]}},
                {"name": "work", "emptyDir": {}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {
                    "name": "host",
                    "hostPath": {"path": str(self.counted), "type": "DirectoryOrCreate"},
                },
            ],
            securityContext={"fsGroup": 4321},
        )

    def _job(self) -> dict[str, Any]:
        mount = [{"name": "host", "mountPath": "/host"}]
        volumes = [{"name": "host", "hostPath": {"path": str(self.counted)}}]
        main = container("echo once >> /host/job", volumeMounts=mount)
        return self._pod(2, "job", containers=[main], volumes=volumes, restartPolicy="OnFailure")

    def ending(self) -> list[dict[str, Any]]:
        mark = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5}
        return [one | {"metadata": one["metadata"] | mark} for one in self.pods()]


@dataclass
class Lane:
    """A node that goes through rounds."""

    number: int
    node: EdgeNode
    runtime: CriRuntime
    registry: str
    log: list[str] = field(default_factory=list)
    count: int = 0

    def settings(self) -> str:
        config = EdgeConfig(
            node_name=self.node.name,
            data_dir=self.node.data,
            logs_dir=self.node.logs,
            runtime_endpoint=self.node.containerd.endpoint,
            container_log_max_size=SETTINGS["containerLogMaxSize"],
            container_log_max_files=SETTINGS["containerLogMaxFiles"],
        )
        return json.dumps(asdict(config), default=str)

    def start(self, *armed: str) -> None:
        """Starts the agent: the test build with a point armed, or what a node runs."""
        words = (
            ["-m", "tests.rig.faulty_agent", *armed]
            if armed
            else ["-OO", "-m", "kedge.edge", "--resolved"]
        )
        note = [str(self.note)] if armed else []
        self.node.agent = Process(
            [*words, self.settings(), *note], log=self.node.directory / "agent.log"
        )

    @property
    def note(self) -> Path:
        return self.node.directory / "note"

    async def crash(self, point: str) -> None:
        """Runs the agent until it has killed itself at a point."""
        self.note.unlink(missing_ok=True)
        self.start(point)
        agent = self.node.agent
        deadline = time.monotonic() + STEP_SECONDS
        while agent.is_running():
            assert time.monotonic() < deadline, f"{point} is not reached:\n{agent.tail()}"
            await asyncio.sleep(0.02)
        assert agent.stop() == -signal.SIGKILL, agent.tail()
        assert self.note.read_text() == point.partition("+")[0].partition(":")[0]

    async def until(self, check: Callable[[], Any], what: str) -> None:
        """Waits for an empty list of problems while the agent runs."""
        deadline = time.monotonic() + STEP_SECONDS
        while problems := await check():
            agent = self.node.agent
            if time.monotonic() > deadline or not agent.is_running():
                raise AssertionError(f"{what}: {problems}\n{agent.tail(60)}")
            await asyncio.sleep(0.05)

    async def go(self, start: str, stop: str) -> None:
        """One round: started with a crash at one point, ended with a crash at another."""
        self.count += 1
        one = Round(
            self.count, self.number, self.registry, self.node.directory / f"host-{self.count}"
        )
        # What is left of a pod that the store has no more does not tell its hooks.
        has_hooks = stop.startswith("container.pre_stop")
        one.deleted_from_store = self.count % 2 == 0 and not has_hooks
        what = f"lane {self.number}, round {self.count}, killed at {start}"
        # As a boot leaves it: what is in memory is not mounted.
        unmount_below(self.node.data)
        self.node.change(*one.objects())
        if start in FIRST:
            await self.crash(FIRST[start])
        await self.crash(start)
        self.start()
        await self.until(lambda: self.unlike_store(one, is_rotated=start.startswith("log.")), what)
        self.node.kill()
        what = f"lane {self.number}, round {self.count}, killed at {stop}"
        if one.deleted_from_store:
            self.node.change(deleted=tuple(one.pods()))
        else:
            self.node.change(*one.ending())
        await self.crash(stop)
        self.start()
        await self.until(lambda: self.left_over(one), what)
        await self.reported(set() if one.deleted_from_store else {"server", "job"}, what)
        self.node.change(deleted=tuple(one.objects()))
        self.forget_reports()

    async def reported(self, wanted: set[str], what: str) -> None:
        """Ends the agent when it has told of these pods' ends; one that was too early is started again."""
        for attempt in range(5):
            await asyncio.sleep(0.2)
            self.node.kill()
            found = set(self.node.reports("pods/deleted"))
            if found == wanted:
                return
            assert found < wanted, (what, found)
            await asyncio.sleep(attempt)
            self.start()
        raise AssertionError(f"{what}: {found} reported, wanted {wanted}")

    def forget_reports(self) -> None:
        """Takes the reports out, as the link does when they have arrived."""
        from kedge.api.keys import ObjectKey
        from kedge.store import delete

        store = self.node._open()
        try:
            keys = [item.key for item in store.list("", "pods/deleted").items]
            store.commit_now([delete(ObjectKey(*key)) for key in keys])
        finally:
            store.close()

    async def unlike_store(self, one: Round, *, is_rotated: bool) -> list[str]:
        """What is not as it must be while both pods are wanted."""
        view = await runtime_view.look(self.runtime, one.uids)
        cancelled = await runtime_view.never_started(self.runtime, view)
        again = {
            "first": view.count(one.uid(1), "first", cancelled),
            "job": view.count(one.uid(2), "main", cancelled),
        }
        view.containers = [row for row in view.containers if row.id not in cancelled]
        server, job = one.uid(1), one.uid(2)
        found = []
        wanted = {
            server: [("first", "exited"), ("main", "running")],
            job: [("main", "exited")],
        }
        for uid, states in wanted.items():
            # A start that was cancelled with the agent counts as one, as with the kubelet.
            if [(name, state) for name, _, state in view.states(uid)] != states:
                found.append(f"{uid}: {view.states(uid)}")
        if view.ready(server) != [True] or view.ready(job) != [False]:
            found.append(f"sandboxes: {view.ready(server)} {view.ready(job)}")
        statuses = local.statuses(self.node.data)
        if not _is_ready(statuses.get(server)) or statuses.get(job, {}).get("phase") != "Succeeded":
            found.append(f"statuses: {json.dumps(statuses)}")
        if found:
            return found
        return self.unlike_machine(one, statuses, len(cancelled), again) or self.unlike_log(
            one, is_rotated=is_rotated
        )

    def unlike_machine(
        self, one: Round, statuses: dict[str, Any], cancelled: int, again: dict[str, int]
    ) -> list[str]:
        """The same for restart counts, volumes and mounts; these are final and not waited for."""
        counts = [
            row["restartCount"]
            for status in statuses.values()
            for row in [*status["containerStatuses"], *status.get("initContainerStatuses", [])]
        ]
        assert sum(counts) == cancelled, counts
        if not (one.counted / "ready").exists():
            return ["the container has not looked at its volumes"]
        modes = (one.counted / "modes").read_text().split()
        assert modes == ["2777", "2777"], modes
        for name, more in again.items():
            # The runtime calls a start cancelled whose agent died, also when the program began to run.
            runs = (one.counted / name).read_text()
            assert runs in {"once\n" * count for count in range(1, more + 2)}, (name, runs, more)
        points = mounts_below(self.node.directory)
        assert len(points) == 3, points
        return []

    def unlike_log(self, one: Round, *, is_rotated: bool) -> list[str]:
        """Every line is there once; a rotated log's file is open again."""
        directory = next((self.node.logs).glob(f"*_{one.uid(1)}")) / "main"
        is_done = bool(list(directory.glob("0.log.*"))) and (directory / "0.log").exists()
        if is_rotated and not is_done:
            return [f"log: {sorted(directory.iterdir())}"]
        lines = sum(path.read_bytes().count(b"\n") for path in directory.iterdir())
        assert lines <= 600, lines
        return [] if lines == 600 else [f"log: {lines} lines"]

    async def left_over(self, one: Round) -> list[str]:
        """What is left of pods that have ended."""
        view = await runtime_view.look(self.runtime, one.uids)
        if view.sandboxes or view.containers:
            return [str(one) for one in (*view.sandboxes, *view.containers)]
        return await asyncio.to_thread(runtime_view.left_on_machine, self.node.directory, one.uids)


def _is_ready(status: dict[str, Any] | None) -> bool:
    conditions = (status or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@asynccontextmanager
async def strangers(containerd: Containerd, runtime: CriRuntime) -> AsyncIterator[None]:
    """Containers of others in the same namespace: they run on as they are."""
    containerd.ctr("run", "--detach", IMAGE, "plain", "sleep", "1000000")
    for number, names in enumerate(
        (
            {
                labels.POD_UID: "a-kubelets-pod",
                labels.POD_NAME: "web",
                labels.POD_NAMESPACE: "default",
            },
            {labels.POD_UID: "another-nodes-pod", labels.MANAGED_BY: "another-node"},
            {"made-by": "crictl"},
        )
    ):
        metadata = {
            "name": f"other-{number}",
            "namespace": "default",
            "uid": f"other-{number}",
            "attempt": 0,
        }
        await runtime.run_sandbox(
            {"metadata": metadata, "labels": names, "log_directory": "/tmp", "linux": {}}
        )
    before = {
        line.split()[0]: line.split()[1]
        for line in containerd.ctr("tasks", "list").splitlines()[1:]
    }
    assert len(before) == 4
    yield
    after = {
        line.split()[0]: line.split()[1]
        for line in containerd.ctr("tasks", "list").splitlines()[1:]
    }
    assert after == before


def points() -> tuple[list[str], list[str]]:
    """The points of starting and those of ending, with the delayed ones."""
    both = agent_points()
    every = both + [name + delay for name in both if name in UNDER_WAY for delay in ASKED]
    stop = [one for one in every if is_of_the_end(one)]
    return [one for one in every if one not in stop], stop


def agent_points() -> list[str]:
    """The points of the agent; the others have tests of their own, with what they are about."""
    others = ("csi.", "reset.", "static.")
    return [one for one in fault_points.names() if not one.startswith(others)]


def is_of_the_end(name: str) -> bool:
    """Whether it is a step of a pod's end, by its name."""
    name = name.partition("+")[0]
    ends = (
        "container.stop",
        "container.pre_stop",
        "pod.sandbox.stop",
        "pod.sandbox.removed",
        "volume.unmounted",
        "pod.volumes.removed",
    )
    return name.startswith(ends) or name in {
        "pod.directory.removed",
        "pod.logs.removed",
        "pod.cgroup.removed",
    }


async def walk(containerd: Containerd, directory: Path, host: str) -> None:
    start, stop = points()
    assert len(start) + len(stop) >= len(agent_points())
    waiting = list(enumerate(start if len(start) > len(stop) else stop))

    async def lane(number: int, runtime: CriRuntime) -> None:
        with EdgeNode(
            directory / f"lane-{number}", name=f"lane-{number}", containerd=containerd
        ) as node:
            one = Lane(number, node, runtime, host)
            while waiting:
                index, _ = waiting.pop(0)
                began = time.monotonic()
                pair = start[index % len(start)], stop[index % len(stop)]
                await one.go(*pair)
                print(f"{time.monotonic() - began:5.1f} s  {pair[0]:32} {pair[1]}")

    async with connected(containerd.endpoint) as runtime, strangers(containerd, runtime):
        others = len(runtime_view.network_ends(containerd))
        async with asyncio.TaskGroup() as group:
            for number in range(LANES):
                group.create_task(lane(number, runtime))
        assert len(runtime_view.network_ends(containerd)) == others, "a network namespace is left"
        assert len(runtime_view.addresses_taken(containerd)) == others, "an address is left"


def test_the_runtime_equals_the_store_after_a_kill_at_every_step() -> None:
    directory = Path(tempfile.mkdtemp(prefix="kedge-crash-"))
    containerd, registry = Containerd(directory / "runtime"), Registry()
    try:
        containerd.start()
        asyncio.run(walk(containerd, directory, registry.host))
        containerd.ctr("tasks", "kill", "--signal", "SIGKILL", "plain")
    finally:
        registry.stop()
        containerd.stop()
        unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)
