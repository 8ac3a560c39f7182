# SPDX-License-Identifier: Apache-2.0
"""Logs, exec, attach, cp and port-forward on the node itself: the operator's kubectl and pods' clients, offline."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.rig.inpod import InPod, answers_as, curl, grant
from tests.rig.kubectl import Kubectl, fetched, newer
from tests.rig.pods import pod
from tests.rig.processes import free_port, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SERVE = "mkdir -p /www; echo served > /www/index.html; echo ready; exec httpd -f -p 8080 -h /www"
READ = "while read word; do echo got $word; done"
RUNS = {
    "apiGroups": [""],
    "resources": ["pods/exec", "pods/portforward", "pods/attach"],
    "verbs": ["create"],
}
LOGS = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
PODS = "/api/v1/namespaces/default/pods"


def one(name: str, node: str, script: str, **more: Any) -> dict[str, Any]:
    found = pod(name, node)
    found["spec"]["containers"][0] |= {"command": ["sh", "-c", script], **more}
    return found


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("streams") as found:
        grant(found, RUNS, LOGS)
        node = found.node_name
        weak = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "weak"}}
        found.api.create("/api/v1/namespaces/default/serviceaccounts", weak)
        found.api.create(PODS, one("client", node, SERVE))
        found.api.create(PODS, one("reader", node, READ, stdin=True))
        stranger = pod("stranger", node)
        stranger["spec"]["serviceAccountName"] = "weak"
        found.api.create(PODS, stranger)
        yield found


@pytest.fixture(scope="module")
def inside(system: System) -> InPod:
    found = InPod(system.containerd, system.edge_dir, "client")
    url = found.url(f"{PODS}/client/log")
    wait_until(lambda: answers_as(url, found.token), 20, "the node knows what its pod may do")
    return found


@pytest.fixture(scope="module", params=["online", "offline"])
def link(request: pytest.FixtureRequest, system: System, inside: InPod) -> Iterator[str]:
    InPod(system.containerd, system.edge_dir, "reader")
    if request.param == "online":
        yield "online"
        return
    with system.offline():
        yield "offline"


@pytest.fixture(params=["debian", "current"])
def kubectl(request: pytest.FixtureRequest, system: System, link: str) -> Kubectl:
    program = newer() if request.param == "current" else fetched("debian")
    kubeconfig = system.edge_dir / "metaserver" / "kubeconfig"
    home = system.directory / f"home-{request.param}-{link}"
    home.mkdir(exist_ok=True)
    return Kubectl(program, kubeconfig, "default", home)


def test_the_operator_of_a_node_reads_logs_and_runs_commands(kubectl: Kubectl, link: str) -> None:
    assert "client" in kubectl("get", "pods")
    assert kubectl("logs", "client") == "ready\n"
    done = kubectl.run("exec", "client", "--", "sh", "-c", "echo out; exit 7", code=7)
    assert done.stdout == "out\n"
    text = "".join(f"line {number}\n" for number in range(20_000))
    assert kubectl("exec", "-i", "client", "--", "cat", stdin=text) == text
    refused = kubectl.run("logs", "client", "-c", "x", code=1).stderr
    assert "container x is not valid for pod client" in refused


def test_what_a_container_reads_by_attach_is_in_the_log_that_is_followed(kubectl: Kubectl) -> None:
    word = uuid4().hex
    words = ["-n", "default", "logs", "-f", "reader"]
    follower = subprocess.Popen(
        [kubectl.program, "--kubeconfig", str(kubectl.kubeconfig), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        kubectl("attach", "-i", "reader", stdin=f"{word}\n")
        assert follower.stdout is not None
        while follower.stdout.readline() != f"got {word}\n":
            assert follower.poll() is None
    finally:
        follower.kill()
        follower.communicate()


def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    (tmp_path / "up").write_bytes(data)
    kubectl("cp", str(tmp_path / "up"), "client:/tmp/there")
    kubectl("cp", "client:/tmp/there", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data


def test_a_port_is_forwarded(kubectl: Kubectl) -> None:
    port = free_port()
    command = [kubectl.program, "--kubeconfig", str(kubectl.kubeconfig), "-n", "default"]
    forward = subprocess.Popen(
        [*command, "port-forward", "client", f"{port}:8080"], stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: listens(port), 20, "kubectl listens")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"served\n"
    finally:
        forward.terminate()
        forward.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_the_operator_sees_usage_and_asks_the_kubelet(
    kubectl: Kubectl, system: System, link: str
) -> None:
    assert kubectl("get", "--raw", f"/api/v1/nodes/{system.node_name}/proxy/healthz") == "ok"
    wait_until(
        lambda: "client" in kubectl.run("top", "pods", code=None).stdout, 20, "usage was counted"
    )


def test_what_is_the_clouds_is_refused_to_the_operator(kubectl: Kubectl) -> None:
    for words in (
        ["get", "deployments"],
        ["create", "configmap", "x", "--from-literal=a=b"],
        ["delete", "pod", "client"],
        ["logs", "elsewhere"],
    ):
        refused = kubectl.run(*words, code=1).stderr
        assert "a certificate of this node means nothing to it" in refused, words


def test_the_official_client_runs_commands_and_reads_logs(inside: InPod, link: str) -> None:
    program = """
from kubernetes.stream import stream
show(core.read_namespaced_pod_log("client", "default"))
out = stream(core.connect_get_namespaced_pod_exec, "client", "default", command=["echo", "hi"],
             stdin=False, stdout=True, stderr=True, tty=False)
show(out)
"""
    lines = [json.loads(line) for line in inside.python(program).splitlines()]
    assert lines == ["ready\n", "hi\n"]


def test_a_pod_runs_nothing_without_a_role(system: System, inside: InPod, link: str) -> None:
    stranger = InPod(system.containerd, system.edge_dir, "stranger")
    port = system.metaserver_port
    for below in ("log", "exec?command=id&stdout=1", "attach?stdout=1", "portforward?ports=80"):
        for method in ("GET", "POST"):
            url = f"https://127.0.0.1:{port}{PODS}/client/{below}"
            code, body = curl(url, stranger.token, method=method)
            assert code == 403, (method, below, body)
            assert curl(url, method=method)[0] == 401
    url = f"https://127.0.0.1:{port}/api/v1/nodes/{system.node_name}/proxy/pods"
    assert curl(url, stranger.token)[0] == 403
    assert curl(url, inside.token)[0] == 403
