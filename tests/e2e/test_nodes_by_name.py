# SPDX-License-Identifier: Apache-2.0
"""A node asked by the name in its addresses, as metrics-server asks a kubelet: same paths, rights and checks."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.rig.kubectl import Kubectl, newer
from tests.rig.pods import pod
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

DOMAIN = "nodes.kedge.test"
ROLES = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-server, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics-server}
rules:
- {apiGroups: [""], resources: [nodes/metrics], verbs: [get]}
- {apiGroups: [""], resources: [pods, nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-server}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics-server}
subjects:
- {kind: ServiceAccount, name: metrics-server, namespace: kube-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [nodes/proxy], verbs: [get]}
- {apiGroups: [""], resources: [nodes/stats], verbs: [get], resourceNames: [edge-2]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects:
- {kind: ServiceAccount, name: reader, namespace: kube-system}
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("names", node_domain=DOMAIN, with_simulator=False) as one:
        one.api.create("/api/v1/namespaces/default/pods", pod("web"))
        wait_until(lambda: one.pods()[0]["status"].get("phase") == "Running", 60, "the pod runs")
        yield one


@pytest.fixture(scope="module")
def token(system: System) -> str:
    """Of an account with metrics-server's role."""
    return token_of(system, "metrics-server")


@pytest.fixture(scope="module")
def reader(system: System) -> str:
    """Of an account that may read from all nodes what has no right of its own, and another node's figures."""
    return token_of(system, "reader")


def token_of(system: System, account: str) -> str:
    kubectl = Kubectl(newer(), system.kubeconfig, "kube-system", system.directory)
    kubectl("apply", "-f", "-", stdin=ROLES)
    path = f"/api/v1/namespaces/kube-system/serviceaccounts/{account}/token"
    found: str = system.api.create(path, {"spec": {}})["status"]["token"]
    return found


class Named(http.client.HTTPSConnection):
    """A connection to a name that the resolver would lead to 127.0.0.1."""

    def connect(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port), 30)
        self.sock = self._context.wrap_socket(sock, server_hostname=self.host)


def address(system: System) -> tuple[str, int]:
    """Where metrics-server finds the node's kubelet with --kubelet-preferred-address-types=InternalDNS."""

    def found() -> tuple[str, int] | None:
        status = system.api.get("/api/v1/nodes/edge-1")["status"]
        names = [one["address"] for one in status["addresses"] if one["type"] == "InternalDNS"]
        port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        return (names[0], port) if names and port else None

    return wait_until(found, 20, "the node has a name")


def ask(
    system: System,
    path: str,
    token: str = "",
    node: str = "",
    *,
    admin: bool = False,
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    host, port = address(system)
    content = yaml.safe_load(system.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(content["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if admin:
        context = system.api.credentials.context
    connection = Named(node or host, port, context=context, timeout=30)
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", path, headers=bearer | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_read_as_metrics_server_does(system: System, token: str) -> None:
    assert address(system) == (f"edge-1.{DOMAIN}", system.api_port)
    status, text = ask(system, "/metrics/resource", token)
    assert status == 200, text
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    assert "node_cpu_usage_seconds_total" in found
    labels = found["container_memory_working_set_bytes"]
    assert {"container": "main", "namespace": "default", "pod": "web"} in labels


@pytest.mark.parametrize("path", ["/stats/summary", "/pods", "/healthz", "/exec/default/web/main"])
def test_another_path_wants_another_right(system: System, token: str, path: str) -> None:
    status, text = ask(system, path, token)
    assert status == 403, text
    assert (
        'User "system:serviceaccount:kube-system:metrics-server" cannot get'
        in json.loads(text)["message"]
    )


def test_a_right_is_for_the_nodes_that_it_names(system: System, reader: str) -> None:
    status, text = ask(system, "/stats/summary", reader)
    assert (status, '"nodes/stats"' in json.loads(text)["message"]) == (403, True), text
    status, text = ask(system, "/stats/summary", reader, f"edge-2.{DOMAIN}")
    assert (status, json.loads(text)["message"]) == (404, 'nodes "edge-2" not found')


def test_a_right_to_read_is_none_to_run_something(system: System, reader: str) -> None:
    path = "/exec/default/web/main?command=id&output=1"
    assert ask(system, "/pods", reader)[0] == 200
    wish = {"Connection": "Upgrade", "Upgrade": "websocket"}
    status, text = ask(system, path, reader, headers=wish)
    assert (status, "cannot create" in json.loads(text)["message"]) == (403, True), text
    status, text = ask(system, path, reader, headers={"Upgrade": "websocket"})
    assert (status, "wanted an upgrade" in text) == (400, True), "half a wish is none: " + text


def test_who_may_asks_with_anothers_rights(system: System, reader: str) -> None:
    account = {"Impersonate-User": "system:serviceaccount:kube-system:reader"}
    assert ask(system, "/pods", admin=True, headers=account)[0] == 200
    wish = {"Connection": "Upgrade", "Upgrade": "websocket", **account}
    status, text = ask(system, "/exec/default/web/main?command=id", admin=True, headers=wish)
    assert (status, "cannot create" in json.loads(text)["message"]) == (403, True), text
    status, text = ask(system, "/pods", reader, headers={"Impersonate-User": "admin"})
    assert (status, "cannot impersonate resource" in text) == (403, True), text


def test_the_admin_may_ask_everything_and_nobody_else_anything(system: System) -> None:
    assert ask(system, "/healthz", admin=True) == (200, "ok")
    status, text = ask(system, "/pods", admin=True)
    assert (status, [one["metadata"]["name"] for one in json.loads(text)["items"]]) == (
        200,
        ["web"],
    )
    status, text = ask(system, "/containerLogs/default/web/main", admin=True)
    assert (status, text) == (200, "")
    assert ask(system, "/healthz")[0] == 401, "not even its health, as with a kubelet"
    assert ask(system, "/metrics", "no-token")[0] == 401


def test_a_name_that_is_no_nodes_is_not_found(system: System) -> None:
    status, text = ask(system, "/metrics", node=f"nobody.{DOMAIN}", admin=True)
    answer: dict[str, Any] = json.loads(text)
    assert (status, answer["message"]) == (404, 'nodes "nobody" not found')
