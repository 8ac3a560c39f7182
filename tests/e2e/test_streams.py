# SPDX-License-Identifier: Apache-2.0
"""Streams of other clients than kubectl, and of clients that do not read."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.stream import portforward, stream

from tests.rig.api import Credentials
from tests.rig.kubectl import Kubectl
from tests.rig.pods import IMAGE
from tests.rig.processes import Process, free_port, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVE = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"
FLOOD = "while :; do head -c 65536 /dev/zero | tr '\\0' x; echo; done"


def pod(name: str, script: str) -> dict[str, Any]:
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "streams"}},
        "spec": {
            "containers": [main | {"command": ["sh", "-c", script]}],
            "terminationGracePeriodSeconds": 0,
        },
    }


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("streams") as one:
        yield one


@pytest.fixture(scope="module")
def kubectl(system: System) -> Kubectl:
    return Kubectl.of(system)


@pytest.fixture(scope="module")
def server(kubectl: Kubectl) -> str:
    kubectl("create", "-f", "-", stdin=json.dumps(pod("server", SERVE)))
    wait_until(lambda: phase(kubectl, "server") == "Running", 60, "it runs")
    return "server"


@pytest.fixture
def core(system: System) -> Iterator[client.CoreV1Api]:
    api = config.new_client_from_config(str(system.kubeconfig))
    yield client.CoreV1Api(api)
    api.close()
    with warnings.catch_warnings():
        # The client leaves the sockets of its streams to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def phase(kubectl: Kubectl, name: str) -> str:
    return str(kubectl.json("get", "pod", name)["status"].get("phase", ""))


# The client leaves the sockets of its streams to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_official_python_client_runs_commands(core: client.CoreV1Api, server: str) -> None:
    command = ["sh", "-c", "read word; echo got $word; echo bad >&2; exit 3"]
    found = stream(
        core.connect_get_namespaced_pod_exec, server, "default", command=command,
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
    )  # fmt: skip
    found.write_stdin("hello\n")
    found.run_forever(timeout=30)
    assert found.read_stdout() == "got hello\n"
    assert found.read_stderr() == "bad\n"
    assert found.returncode == 3
    found.close()


# The client leaves the sockets of its streams to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_official_python_client_forwards_ports(core: client.CoreV1Api, server: str) -> None:
    forward = portforward(
        core.connect_get_namespaced_pod_portforward, server, "default", ports="8080,9"
    )
    asked = forward.socket(8080)
    asked.settimeout(30)
    asked.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while block := asked.recv(4096):
        answer += block
    assert answer.endswith(b"served\n"), answer
    silent = forward.socket(9)
    silent.settimeout(30)
    assert silent.recv(100) == b""
    wait_until(lambda: forward.error(9), 20, "the port that nobody serves is said")
    assert "refused" in forward.error(9)


def test_a_client_that_does_not_read_delays_no_pod(system: System, kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(pod("flood", FLOOD)))
    wait_until(lambda: phase(kubectl, "flood") == "Running", 60, "it runs")
    credentials = Credentials.load(system.kubeconfig)
    stuck = http.client.HTTPSConnection(
        credentials.host, credentials.port, context=credentials.context, timeout=30
    )
    stuck.request("GET", "/api/v1/namespaces/default/pods/flood/log?follow=true")
    answer = stuck.getresponse()
    assert answer.read(1000) == b"x" * 1000
    began = time.monotonic()
    for at in range(5):
        kubectl("create", "-f", "-", stdin=json.dumps(pod(f"late-{at}", "exec sleep 1000000")))
    for at in range(5):
        wait_until(lambda at=at: phase(kubectl, f"late-{at}") == "Running", 30, "it runs")
    took = time.monotonic() - began
    assert took < 30
    # It was not cut off, and goes on where it was.
    assert answer.read(1 << 20).replace(b"\n", b"").strip(b"x") == b""
    stuck.close()
    kubectl("delete", "pod", "flood")


def test_logs_of_many_containers_are_told_apart(kubectl: Kubectl) -> None:
    for name in ("one", "two"):
        two = pod(
            f"many-{name}", f"echo {name}-first; sleep 1; echo {name}-last; exec sleep 1000000"
        )
        two["metadata"]["labels"] = {"app": "many"}
        extra = json.loads(json.dumps(two["spec"]["containers"][0])) | {"name": "side"}
        two["spec"]["containers"].append(extra)
        kubectl("create", "-f", "-", stdin=json.dumps(two))
    words = ["logs", "-l", "app=many", "--all-containers", "--prefix"]
    wait_until(
        lambda: kubectl.run(*words, code=None).stdout.count("-last") == 4, 60, "all have spoken"
    )
    lines = kubectl(*words).splitlines()
    assert "[pod/many-one/main] one-first" in lines
    assert "[pod/many-two/side] two-last" in lines
    stamped = kubectl("logs", "many-one", "-c", "main", "--timestamps").splitlines()
    since = stamped[1].split(" ")[0]
    found = kubectl("logs", "many-one", "-c", "main", f"--since-time={since}")
    assert found == "one-last\n", "what was before is left out"


def test_a_stream_goes_to_the_replica_that_has_the_link(
    system: System, kubectl: Kubectl, server: str
) -> None:
    assert system.proxy is not None
    port = free_port()
    other = Process(
        [
            *("-m", "kedge.cloud", "--data-dir", str(system.directory / "other-cloud")),
            *("--kubeconfig", str(system.control_dir / "cluster" / "cloud.kubeconfig")),
            *("--listen", f"127.0.0.1:{port}"),
        ],
        log=system.directory / "other-cloud.log",
    )

    def hub() -> str:
        lease = kubectl.json("get", "lease", "edge-1", "-n", "kube-node-lease")
        return str(lease["metadata"]["annotations"]["kedge.io/hub"])

    def answers() -> bool:
        done = kubectl.run("exec", server, "--", "echo", "here", code=None)
        return done.stdout == "here\n"

    try:
        wait_until(lambda: listens(port), 30, "the other replica listens", alive=other)
        before, first = hub(), system.proxy.target
        for target in (("127.0.0.1", port), first):
            system.cut_link()
            system.proxy.target = target
            system.restore_link()
            wanted = f":{target[1]}"
            wait_until(lambda wanted=wanted: hub().endswith(wanted), 40, "the node has moved")
            wait_until(answers, 20, "the stream finds it")
        assert hub() == before
    finally:
        other.stop()


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
