# SPDX-License-Identifier: Apache-2.0
"""What a kubelet gives people, through the node's one outbound connection: logs, exec, files, ports."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.kubectl import Kubectl, fetched, newer
from tests.rig.pods import IMAGE
from tests.rig.processes import free_port, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TALK = "echo first; echo second; while [ ! -e /tmp/end ]; do sleep 0.1; done; echo last"
SERVE = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    command = ["sh", "-c", script]
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
    } | more


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 0, **spec},
    }


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("link") as one:
        yield one


@pytest.fixture(scope="module", params=["debian", "current"])
def kubectl(system: System, request: pytest.FixtureRequest) -> Kubectl:
    program = fetched("debian") if request.param == "debian" else newer()
    namespace = f"through-{request.param}"
    found = Kubectl(program, system.kubeconfig, namespace, system.directory)
    found("create", "namespace", namespace)
    return found


@pytest.fixture
def run(kubectl: Kubectl) -> Iterator[Any]:
    """Creates pods and waits until they run."""
    made: list[str] = []

    def create(one: dict[str, Any]) -> str:
        name = str(one["metadata"]["name"])
        kubectl.wait_for_account()
        kubectl("create", "-f", "-", stdin=json.dumps(one))
        made.append(name)
        wait_until(lambda: phase(kubectl, name) == "Running", 30, f"{name} runs")
        return name

    yield create
    for name in made:
        kubectl("delete", "pod", name, "--wait=true")


def phase(kubectl: Kubectl, name: str) -> str:
    return str(kubectl.json("get", "pod", name)["status"].get("phase", ""))


def test_logs_are_read_followed_and_selected(kubectl: Kubectl, run: Any) -> None:
    name = run(pod("talk", container("a", TALK), container("b", "echo other; exec sleep 1000000")))
    wait_until(lambda: "second" in kubectl("logs", name, "-c", "a"), 20, "it has spoken")
    assert kubectl("logs", name, "-c", "a") == "first\nsecond\n"
    assert kubectl("logs", name, "-c", "a", "--tail=1") == "second\n"
    assert kubectl("logs", name, "-c", "a", "--limit-bytes=3") == "fir"
    assert kubectl("logs", name, "-c", "a", "--since=1h") == "first\nsecond\n"
    stamped = kubectl("logs", name, "-c", "a", "--timestamps").splitlines()[0]
    assert stamped.endswith("Z first") or "+" in stamped
    assert sorted(kubectl("logs", name, "--all-containers").split()) == ["first", "other", "second"]
    refused = kubectl.run("logs", name, "-c", "x", code=1).stderr
    assert f"container x is not valid for pod {name}" in refused
    words = ["-n", kubectl.namespace, "logs", "-f", name, "-c", "a"]
    follower = subprocess.Popen(
        [kubectl.program, "--kubeconfig", str(kubectl.kubeconfig), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert [follower.stdout.readline() for _ in range(2)] == ["first\n", "second\n"]
    kubectl("exec", name, "-c", "a", "--", "touch", "/tmp/end")
    assert follower.communicate(timeout=30)[0] == "last\n"
    assert follower.returncode == 0, "it ends with its container"
    wait_until(
        lambda: kubectl.run("logs", name, "-c", "a", "--previous", code=None).stdout.endswith(
            "last\n"
        ),
        30,
        "the log of the container before",
    )


def test_a_command_has_its_streams_and_its_exit_code(kubectl: Kubectl, run: Any) -> None:
    name = run(pod("exec", container("main", "exec sleep 1000000")))
    done = kubectl.run("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr
    text = "".join(f"line {number}\n" for number in range(20_000))
    echoed = kubectl("exec", "-i", name, "--", "cat", stdin=text)
    assert echoed == text, "stdin ends, and nothing is lost on the way"
    refused = kubectl.run("exec", name, "--", "/no/such/program", code=None)
    assert refused.returncode != 0
    assert "no such file" in refused.stderr
    refused = kubectl.run("exec", "absent", "--", "true", code=1).stderr
    assert 'pods "absent" not found' in refused


def test_files_are_copied_both_ways(kubectl: Kubectl, run: Any, tmp_path: Path) -> None:
    name = run(pod("files", container("main", "exec sleep 1000000")))
    data = bytes(range(256)) * 4000
    (tmp_path / "up").write_bytes(data)
    kubectl("cp", str(tmp_path / "up"), f"{name}:/tmp/there")
    kubectl("cp", f"{name}:/tmp/there", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data


def test_what_a_container_reads_can_be_attached_to(kubectl: Kubectl, run: Any) -> None:
    main = container("main", "read word; echo got $word", stdin=True, stdinOnce=True)
    name = run(pod("attach", main, restartPolicy="Never"))
    assert "got hello\n" in kubectl("attach", "-i", name, stdin="hello\n")
    assert kubectl("logs", name) == "got hello\n"


def test_a_port_is_forwarded(kubectl: Kubectl, run: Any) -> None:
    name = run(pod("ports", container("main", SERVE)))
    port = free_port()
    command = [kubectl.program, "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace]
    forward = subprocess.Popen(
        [*command, "port-forward", name, f"{port}:8080"], stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: listens(port), 20, "kubectl listens")

        def served() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return bool(answer.read() == b"served\n")

        wait_until(lambda: quietly(served), 20, "the pod answers")
        assert all(served() for _ in range(10))
    finally:
        forward.terminate()
        forward.wait(10)


def quietly(check: Any) -> bool:
    try:
        return bool(check())
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_the_node_answers_through_the_api_servers_proxy(kubectl: Kubectl, run: Any) -> None:
    name = run(pod("proxied", container("main", "exec sleep 1000000")))
    base = "/api/v1/nodes/edge-1/proxy"
    assert kubectl("get", "--raw", f"{base}/healthz") == "ok"
    assert kubectl("get", "--raw", "/api/v1/nodes/edge-1:10250/proxy/healthz") == "ok"
    pods = json.loads(kubectl("get", "--raw", f"{base}/pods"))["items"]
    assert name in [one["metadata"]["name"] for one in pods]
    assert "NotFound" in kubectl.run("get", "--raw", f"{base}/nothing", code=1).stderr
    refused = kubectl.run("get", "--raw", "/api/v1/nodes/absent/proxy/healthz", code=1).stderr
    assert 'nodes "absent" not found' in refused


def test_a_changed_or_made_again_config_reaches_a_running_pod(kubectl: Kubectl, run: Any) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=mode=slow")
    kubectl("create", "secret", "generic", "key", "--from-literal=word=one")
    mounts = [
        {"name": "settings", "mountPath": "/settings"},
        {"name": "key", "mountPath": "/key"},
    ]
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "key", "secret": {"secretName": "key"}},
    ]
    main = container("main", "exec sleep 1000000", volumeMounts=mounts)
    name = run(pod("config", main, volumes=volumes))

    def inside() -> str:
        return kubectl("exec", name, "--", "cat", "/settings/mode", "/key/word")

    assert inside() == "slowone"
    kubectl("patch", "configmap", "settings", "-p", json.dumps({"data": {"mode": "fast"}}))
    kubectl("patch", "secret", "key", "-p", json.dumps({"stringData": {"word": "two"}}))
    wait_until(lambda: inside() == "fasttwo", 20, "both changes are in the files")
    kubectl("delete", "configmap/settings", "secret/key")
    kubectl("create", "configmap", "settings", "--from-literal=mode=new")
    kubectl("create", "secret", "generic", "key", "--from-literal=word=three")
    wait_until(lambda: inside() == "newthree", 20, "both new ones are in the files")


def test_a_node_that_is_away_is_named(system: System, kubectl: Kubectl, run: Any) -> None:
    name = run(pod("away", container("main", "echo here; exec sleep 1000000")))
    wait_until(lambda: kubectl("logs", name) == "here\n", 20, "it has spoken")
    system.cut_link()
    try:
        wait_until(
            lambda: "node edge-1 cannot be reached" in kubectl.run("logs", name, code=None).stderr,
            60,
            "kubectl is told that the node is away",
        )
    finally:
        system.restore_link()
    wait_until(lambda: kubectl.run("logs", name, code=None).stdout == "here\n", 60, "it is back")
