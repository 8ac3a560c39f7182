# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API on the node, as its pods use it: unmodified clients, with and without the cloud."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.metaserver.tokens import claims_of
from kedge.hub import certificates
from kedge.store import Op, put
from tests.rig.edge import EdgeNode
from tests.rig.inpod import RULES, InPod, answers, answers_as, curl, grant
from tests.rig.kubectl import Kubectl, newer
from tests.rig.pods import pod
from tests.rig.processes import Process, python_module, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SEES = """
found = core.list_namespaced_pod("default", label_selector="app=sleep", field_selector="status.phase=Running")
show([[one.metadata.name, one.status.pod_ip] for one in found.items])
"""
WATCHES = """
version = sys.argv[1] or core.list_namespaced_pod("default").metadata.resource_version
show(["LISTED", version, ""])
while True:
    try:
        watch = kubernetes.watch.Watch()
        for event in watch.stream(core.list_namespaced_pod, "default", resource_version=version,
                                  allow_watch_bookmarks=True, timeout_seconds=20):
            version = event["raw_object"]["metadata"]["resourceVersion"]
            show([event["type"], version, event["raw_object"]["metadata"].get("name", "")])
    except Exception as error:
        show(["BROKEN", version, str(error)])
        time.sleep(0.2)
        continue
"""
WRITES = """
began = time.monotonic()
try:
    made = core.create_namespaced_config_map("default", {"metadata": {"name": sys.argv[1]}, "data": {"a": "b"}})
    show(["made", made.metadata.name, time.monotonic() - began])
except ApiException as error:
    body = json.loads(error.body)
    show([error.status, body["reason"], body["message"], time.monotonic() - began])
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("meta") as one:
        grant(one)
        one.api.create("/api/v1/namespaces/default/pods", pod("client", one.node_name))
        yield one


@pytest.fixture(scope="module")
def inside(system: System) -> InPod:
    found = InPod(system.containerd, system.edge_dir, "client")
    wait_until(
        lambda: curl(found.url("/api/v1/namespaces/default/pods"), found.token)[0] == 200,
        20,
        "the node knows what its pod may do",
    )
    return found


@pytest.fixture
def offline(system: System) -> Iterator[None]:
    """Without a cloud for the time of a test."""
    with system.offline():
        yield


def seen(inside: InPod) -> list[list[str]]:
    found: list[list[str]] = json.loads(inside.python(SEES))
    return found


def restart_agent(system: System) -> None:
    assert system.edge is not None
    system.edge.kill()
    system.start_edge()
    port = system.metaserver_port
    wait_until(lambda: answers(f"https://127.0.0.1:{port}/healthz"), 30, "the MetaServer answers")


def test_the_official_client_reads_in_the_pod_with_its_status(inside: InPod) -> None:
    wait_until(lambda: seen(inside), 10, "the pod is seen running")
    ((name, address),) = seen(inside)
    assert name == "client"
    assert address.startswith("10.")


def test_it_reads_offline_and_after_a_restart_of_the_agent(
    system: System, inside: InPod, offline: None
) -> None:
    before = seen(inside)
    assert [name for name, _ in before] == ["client"]
    restart_agent(system)
    assert seen(inside) == before


def test_writes_pass_to_the_cloud_and_fail_at_once_without_it(
    system: System, inside: InPod
) -> None:
    made = json.loads(inside.python(WRITES, "online"))
    assert made[:2] == ["made", "online"]
    assert system.api.get("/api/v1/namespaces/default/configmaps/online")["data"] == {"a": "b"}
    with system.offline():
        status, reason, message, seconds = json.loads(inside.python(WRITES, "offline"))
        assert (status, reason) == (503, "ServiceUnavailable")
        assert "this node has no link to its cloud" in message
        assert seconds < 1


def test_an_informer_goes_on_from_its_version_over_an_offline_restart(
    system: System, inside: InPod, offline: None
) -> None:
    informer = inside.start_python(WATCHES, "")
    assert informer.stdout is not None

    def next_line() -> list[str]:
        line: list[str] = json.loads(informer.stdout.readline())  # type: ignore[union-attr]
        return line

    try:
        kind, listed, _ = next_line()
        assert kind == "LISTED"
        system.restore_link()
        wait_until(lambda: system.status()["link"]["state"] == "connected", 60, "the link is up")
        system.api.create("/api/v1/namespaces/default/pods", pod("second", system.node_name))
        events = []
        while not events or events[-1][2] != "second":
            events.append(next_line())
        assert events[-1][0] == "ADDED"
        version = int(events[-1][1])
        assert version > int(listed)
        restart_agent(system)
        system.api.delete("/api/v1/namespaces/default/pods/second?gracePeriodSeconds=0")
        kinds = []
        while "DELETED" not in kinds:
            kind, at, name = next_line()
            if name == "second":
                kinds.append(kind)
                assert int(at) > version
                version = int(at)
        assert "ADDED" not in kinds, "it went on from where it was"
    finally:
        informer.kill()
        informer.communicate()


def test_kubectl_in_the_pod_lists_watches_and_writes(system: System, inside: InPod) -> None:
    kubectl = newer()
    table = inside.run(kubectl, "get", "pods", "-n", "default")
    assert "client" in table
    assert "Running" in table
    described = inside.run(
        kubectl, "get", "pod", "client", "-n", "default", "-o", "jsonpath={.spec.nodeName}"
    )
    assert described == system.node_name
    inside.run(kubectl, "create", "configmap", "by-kubectl", "-n", "default", "--from-literal=a=b")
    assert inside.run(
        kubectl, "get", "configmap", "by-kubectl", "-n", "default", "-o", "name"
    ).strip()
    assert (
        "No resources found"
        in inside.run(kubectl, "get", "deployments", "-n", "default", code=0) + "No resources found"
    )
    denied = inside.run(kubectl, "get", "secrets", "-n", "default", code=1)
    assert "forbidden" in denied


def test_kubectl_in_the_pod_says_what_only_the_cloud_knows(inside: InPod, offline: None) -> None:
    kubectl = newer()
    assert "client" in inside.run(kubectl, "get", "pods", "-n", "default")
    refused = inside.run(kubectl, "get", "deployments", "-n", "default", code=1)
    assert "this node has no link to its cloud" in refused


def test_a_configmap_that_was_read_here_is_replaced_there_unless_it_changed(
    system: System, inside: InPod
) -> None:
    body = {"metadata": {"name": "shared"}, "data": {"n": "1"}}
    system.api.create("/api/v1/namespaces/default/configmaps", body)
    one = pod("reader", system.node_name, config_map="shared")
    system.api.create("/api/v1/namespaces/default/pods", one)
    program = """
for _ in range(100):
    found = core.read_namespaced_config_map("shared", "default")
    if int(found.metadata.resource_version) > 1 << 40:
        break
    time.sleep(0.1)
found.data["n"] = "2"
show(core.replace_namespaced_config_map("shared", "default", found).data)
found.data["n"] = "3"
time.sleep(2)
try:
    core.replace_namespaced_config_map("shared", "default", found)
except ApiException as error:
    show(error.status)
"""
    lines = [json.loads(line) for line in inside.python(program).splitlines()]
    assert lines == [{"n": "2"}, 409]
    system.api.delete("/api/v1/namespaces/default/pods/reader?gracePeriodSeconds=0")


def test_nothing_is_answered_without_a_token(system: System, inside: InPod) -> None:
    ca = inside.volume / "ca.crt"
    for path in (
        "/api", "/apis", "/api/v1/pods", "/api/v1/pods?watch=1", "/openapi/v2", "/metrics",
        "/api/v1/namespaces/default/configmaps/shared", "/apis/apps/v1/deployments", "/logs",
    ):  # fmt: skip
        for token in ("", "nonsense", inside.token[:-8] + "AAAAAAAA"):
            code, body = curl(f"https://127.0.0.1:{system.metaserver_port}{path}", token, ca)
            assert code == 401, (path, body)
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert curl(f"https://127.0.0.1:{system.metaserver_port}{path}", "", ca)[0] == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        url = f"https://127.0.0.1:{system.metaserver_port}/api/v1/namespaces/default/pods/client"
        assert curl(url, "", ca, method)[0] == 401
    denied = f"https://127.0.0.1:{system.metaserver_port}/api/v1/namespaces/default/secrets"
    assert curl(denied, inside.token, ca)[0] == 403


def test_a_token_of_a_pod_that_is_gone_is_refused(system: System, inside: InPod) -> None:
    system.api.create("/api/v1/namespaces/default/pods", pod("short", system.node_name))
    short = InPod(system.containerd, system.edge_dir, "short")
    url = short.url("/api/v1/namespaces/default/pods/client")
    token = short.token
    assert curl(url, token)[0] == 200
    system.api.delete("/api/v1/namespaces/default/pods/short?gracePeriodSeconds=0")
    wait_until(lambda: curl(url, token)[0] == 401, 20, "the token counts no more")


class Renewing(System):
    """A control plane that renews tokens after a few seconds, as the kubelet's 80 % would after an hour."""

    def start_control(self) -> None:
        root = self.control_dir
        self.kubeconfig = root / "cluster" / "kubeconfig"
        words = ["-m", "kedge.cluster", "--data-dir", f"{root}/cluster"]
        words += ["--listen", f"127.0.0.1:{self.api_port}"]
        root.mkdir(parents=True)
        self.cluster = Process(words, log=self.directory / "cluster.log")
        wait_until(self._answers, 30, "the API server answers", alive=self.cluster)
        words = ["-m", "kedge.cloud", "--data-dir", f"{root}/cloud", "--token-renew-at", "0.002"]
        words += ["--kubeconfig", f"{root}/cluster/cloud.kubeconfig"]
        words += ["--listen", f"0.0.0.0:{self.hub_port}"]
        self.control = Process(words, log=self.directory / "cloud.log")

    def stop(self) -> None:
        super().stop()
        self.cluster.stop()


def test_a_running_pods_token_is_renewed_before_it_runs_out() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kedge-renew-") as directory,
        Renewing(Path(directory)) as system,
    ):
        grant(system)
        system.api.create("/api/v1/namespaces/default/pods", pod("client", system.node_name))
        inside = InPod(system.containerd, system.edge_dir, "client")
        running = system.running_containers()
        first = inside.token
        url = inside.url("/api/v1/namespaces/default/pods/client")
        wait_until(lambda: answers_as(url, first), 20, "the first one counts")
        wait_until(lambda: inside.token != first, 40, "another token in the same volume")
        assert answers_as(url, inside.token)
        assert answers_as(url, first), "what was read before holds to its end"
        assert json.loads(inside.python(SEES))
        assert system.running_containers() == running, "nothing was restarted"


CLUSTER = certificates.new_key()
LIFE = 600


def objects_of_a_pod(expires: int) -> list[Op]:
    """A pod that may read itself, with a token that the cloud made for it once."""

    def at(
        resource: str, name: str, value: dict[str, Any], group: str = "", namespace: str = "default"
    ) -> Op:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        value["metadata"] = metadata | value.get("metadata", {})
        return put(ObjectKey(group, resource, namespace, name), json.dumps(value).encode())

    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": LIFE}}
    root = {"configMap": {"name": "kube-root-ca.crt"}}
    one = pod("lonely", "edge-1")
    one["metadata"]["uid"] = "u-lonely"
    one["spec"]["serviceAccountName"] = "default"
    one["spec"]["volumes"] = [{"name": "api", "projected": {"sources": [token, root]}}]
    one["spec"]["containers"][0]["volumeMounts"] = [{"name": "api", "mountPath": "/api"}]
    claims = {
        "iss": "https://cluster",
        "aud": ["https://cluster"],
        "exp": expires,
        "sub": "system:serviceaccount:default:default",
        "kubernetes.io": {
            "namespace": "default",
            "serviceaccount": {"name": "default", "uid": "u-default"},
            "pod": {"name": "lonely", "uid": "u-lonely"},
        },
    }
    minted = {
        "spec": {"podUID": "u-lonely", "expirationSeconds": LIFE},
        "status": {
            "token": certificates.jwt_sign(CLUSTER, claims),
            "expirationTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)),
        },
    }
    issuer = {
        "issuer": "https://cluster",
        "jwks": certificates.jwks([certificates.public_key(CLUSTER)]),
    }
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}
    role = {"apiGroup": rbac, "kind": "Role", "name": "test"}
    return [
        at("pods", "lonely", one),
        at("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": ""}}),
        at("serviceaccounts", "default", {"metadata": {"uid": "u-default"}}),
        at("serviceaccounttokens", "lonely.x", minted, "kedge.io"),
        at("tokenissuers", "cluster", {"spec": issuer}, "kedge.io", ""),
        at("roles", "test", {"rules": RULES}, rbac),
        at("rolebindings", "test", {"roleRef": role, "subjects": [subject]}, rbac),
    ]


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    with EdgeNode.temporary() as one:
        yield one


def test_a_pod_whose_token_ran_out_offline_gets_one_of_the_node(node: EdgeNode) -> None:
    began = int(time.time())
    node.write(objects_of_a_pod(began - 5))
    node.start()
    inside = InPod(node.containerd, node.data, "lonely")
    wait_until(lambda: issuer_of(inside.token) == "kedge-node:edge-1", 20, "a token of the node")
    url = inside.url("/api/v1/namespaces/default/pods/lonely")
    assert curl(url, inside.token, inside.volume / "ca.crt")[0] == 200
    given = claims_of(inside.token)
    assert given is not None
    assert given["exp"] >= began + LIFE
    seen = inside.python('show(core.read_namespaced_pod("lonely", "default").status.phase)')
    assert json.loads(seen) == "Running"

    node.kill()
    node.write(objects_of_a_pod(began + 3 * LIFE))
    node.start()
    wait_until(lambda: issuer_of(inside.token) == "https://cluster", 20, "the cloud's is back")
    wait_until(lambda: answers_as(url, inside.token), 20, "it counts")


def test_a_pod_keeps_its_name_for_the_api_over_a_lost_store(node: EdgeNode) -> None:
    node.write(objects_of_a_pod(int(time.time()) + LIFE))
    node.start()
    inside = InPod(node.containerd, node.data, "lonely")
    url = inside.url("/api/v1/namespaces/default/pods")
    wait_until(lambda: answers_as(url, inside.token), 20, "it answers")
    before = json.loads(curl(url, inside.token)[1])["metadata"]["resourceVersion"]
    node.kill()
    shutil.rmtree(node.data / "store")
    node.write(objects_of_a_pod(int(time.time()) + LIFE))
    node.start()
    wait_until(lambda: answers_as(url, inside.token), 20, "it answers again")
    _, body = curl(f"{url}?watch=1&resourceVersion={before}&timeoutSeconds=2", inside.token)
    first = json.loads(body.splitlines()[0])
    assert (first["type"], first["object"]["code"]) == ("ERROR", 410), "of a store that is gone"
    assert int(json.loads(curl(url, inside.token)[1])["metadata"]["resourceVersion"]) > int(before)


def test_an_address_that_somebody_else_has_is_told_and_waited_for(node: EdgeNode) -> None:
    began = int(time.time())
    node.write(objects_of_a_pod(began + LIFE))
    with socket.create_server(("127.0.0.1", node.metaserver_port)):
        node.start()
        inside = InPod(node.containerd, node.data, "lonely")
        wait_until(lambda: "in use" in metaserver_of(node, "problem"), 20, "the status says why")
        assert f"127.0.0.1:{node.metaserver_port}" in metaserver_of(node, "problem")
        shown = python_module("kedge.ctl", "status", "--dir", str(node.data))
        assert f"api       not listening on 127.0.0.1:{node.metaserver_port}" in shown
    url = inside.url("/api/v1/namespaces/default/pods/lonely")
    wait_until(lambda: answers_as(url, inside.token), 60, "it listens once the port is free")
    wait_until(lambda: metaserver_of(node, "problem") == "", 20, "the status says so")
    wait_until(
        lambda: {"MetaServerNotListening", "MetaServerListening"} <= reasons(node),
        20,
        "both are Events of the node",
    )


def metaserver_of(node: EdgeNode, field: str) -> str:
    try:
        status = json.loads((node.data / "status.json").read_text())
    except (FileNotFoundError, ValueError):
        return ""
    return str(status["metaserver"][field])


def reasons(node: EdgeNode) -> set[str]:
    """Of the Events that wait for a cloud, as the node's operator sees them."""
    kubectl = Kubectl(newer(), node.data / "metaserver" / "kubeconfig", "default", node.directory)
    items = kubectl.json("get", "events")["items"]
    return {one["reason"] for one in items if one["involvedObject"]["kind"] == "Node"}


def issuer_of(token: str) -> str:
    return str((claims_of(token) or {}).get("iss"))
