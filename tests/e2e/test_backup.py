# SPDX-License-Identifier: Apache-2.0
"""A cluster is backed up while it is written to, lost, and brought back elsewhere; its node goes on."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig.api import Api, Watch
from tests.rig.pods import pod
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
TOKEN = "/api/v1/namespaces/default/serviceaccounts/default/token"


@pytest.fixture
def system() -> Iterator[System]:
    with System.temporary("backup") as one:
        yield one


class Load:
    """Makes ConfigMaps without a pause, and remembers the revision of each."""

    def __init__(self, kubeconfig: Path) -> None:
        self._api = Api(kubeconfig)
        self._stop = threading.Event()
        self.made: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            body = {"metadata": {"name": f"load-{number:05}"}, "data": {"n": "x" * 500}}
            made = self._api.create(MAPS, body)["metadata"]
            self.made[made["name"]] = int(made["resourceVersion"])

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(30)
            self._api.close()


def slow(name: str, node: str) -> dict[str, Any]:
    """A pod that takes some seconds to be Running."""
    made = pod(name, node=node)
    [main] = made["spec"]["containers"]
    made["spec"]["initContainers"] = [main | {"name": "wait", "command": ["sleep", "6"]}]
    return made


def phase(system: System, name: str) -> str:
    found: str = system.api.get(f"{PODS}/{name}")["status"]["phase"]
    return found


def manifest(file: Path) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read_bytes()))) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        found: dict[str, Any] = json.loads(member.read())
        return found


def replace_control(system: System, file: Path) -> None:
    """The control plane's machine is gone; another directory takes its place, at the same ports."""
    assert system.control is not None
    system.control.stop()
    system.control_dir.rename(system.directory / "lost")
    system.control_dir = system.directory / "restored"
    system.kubeconfig = system.control_dir / "kubeconfig"
    system.run_kedge("restore", str(file), "--dir", str(system.control_dir))
    system.start_control()


def test_what_was_there_is_there_what_came_later_is_not_and_the_node_goes_on(
    system: System,
) -> None:
    file, node = system.directory / "b.kedge", system.node_name
    system.api.create(PODS, pod("early", node=node))
    wait_until(lambda: phase(system, "early") == "Running", 30, "a pod runs")
    [early] = system.running_containers()
    token = system.api.create(TOKEN, {"spec": {"audiences": []}})["status"]["token"]
    system.api.create(PODS, slow("slow", node))
    load = Load(system.kubeconfig)
    with load.running():
        wait_until(lambda: len(load.made) > 50, 30, "there is load")
        system.run_kedge("backup", str(file), "--dir", str(system.control_dir))
        during = len(load.made)
        wait_until(lambda: len(load.made) > during + 50, 30, "there is load afterwards")
    revision = manifest(file)["revision"]
    assert phase(system, "slow") == "Pending"
    wait_until(lambda: phase(system, "slow") == "Running", 40, "it runs, after the backup")
    system.api.create(PODS, pod("late", node=node))
    wait_until(lambda: phase(system, "late") == "Running", 30, "a pod of after the backup runs")
    assert system.edge is not None
    agent = system.edge.pid
    identity = sorted(path.read_bytes() for path in system.edge_dir.glob("pki/*.crt"))
    assert identity

    replace_control(system, file)

    system.wait_node_ready()
    maps = {
        item["metadata"]["name"]: int(item["metadata"]["resourceVersion"])
        for item in system.api.get(MAPS)["items"]
        if item["metadata"]["name"].startswith("load-")
    }
    assert maps == {name: made for name, made in load.made.items() if made <= revision}
    assert 50 < len(maps) < len(load.made)
    wait_until(lambda: phase(system, "slow") == "Running", 30, "the node told it again")
    assert phase(system, "early") == "Running"
    wait_until(lambda: len(system.running_containers()) == 2, 30, "what came later is ended")
    assert early in system.running_containers()
    assert (system.edge.pid, system.edge.is_running()) == (agent, True)
    assert sorted(path.read_bytes() for path in system.edge_dir.glob("pki/*.crt")) == identity
    assert system.kubectl("logs", "early") == ""
    system.api.create(PODS, pod("new", node=node))
    wait_until(lambda: phase(system, "new") == "Running", 30, "a new pod runs")

    old = Api(system.directory / "lost" / "kubeconfig")
    assert old.get("/version")
    old.close()
    review = system.api.create(
        "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}
    )
    assert review["status"]["authenticated"], review["status"]
    newest = max(load.made.values())
    for known in (revision, newest, newest + 10):
        event = system.api.get(f"{MAPS}?watch=true&resourceVersion={known}&timeoutSeconds=1")
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410), event
    watch = Watch(system.api, MAPS)
    made = system.api.create(MAPS, {"metadata": {"name": "new"}})["metadata"]
    assert int(made["resourceVersion"]) > newest
    watch.wait(lambda seen: "new" in seen, 10)
    watch.close()
    shutil.rmtree(system.directory / "lost")
