# SPDX-License-Identifier: Apache-2.0
"""Roles in a running cluster: what a ServiceAccount's token may do, and when."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig.api import Api, Failed
from tests.rig.control import cluster

pytestmark = pytest.mark.timeout(90)

NS = "/api/v1/namespaces/default"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Account:
    """A client with the token of a ServiceAccount."""

    def __init__(self, kubeconfig: Path, token: str) -> None:
        content = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        authority = base64.b64decode(content["certificate-authority-data"]).decode()
        self.host = content["server"].removeprefix("https://")
        self.context = ssl.create_default_context(cadata=authority)
        self.token = token

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPSConnection(self.host, context=self.context, timeout=20)
        try:
            headers = {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            }
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        finally:
            connection.close()


def role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, kind: str, role: str) -> dict[str, Any]:
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
    return {
        "metadata": {"name": name},
        "roleRef": {"kind": kind, "name": role},
        "subjects": [subject],
    }


def test_a_token_may_do_what_its_roles_say_as_soon_as_they_say_so(tmp_path: Path) -> None:
    with cluster(tmp_path) as kubeconfig:
        admin = Api(kubeconfig)
        admin.create(f"{NS}/serviceaccounts", {"metadata": {"name": "robot"}})
        answer = admin.create(f"{NS}/serviceaccounts/robot/token", {"spec": {}})
        robot = Account(kubeconfig, answer["status"]["token"])
        code, status = robot.ask("GET", f"{NS}/configmaps")
        assert (code, status["reason"]) == (403, "Forbidden")
        assert 'User "system:serviceaccount:default:robot" cannot list' in status["message"]
        assert robot.ask("GET", "/apis")[0] == 200
        rule = {
            "verbs": ["get", "list", "create"],
            "apiGroups": [""],
            "resources": ["configmaps"],
        }
        admin.create(f"{RBAC}/namespaces/default/roles", role("writer", rule))
        admin.create(f"{RBAC}/namespaces/default/rolebindings", binding("writer", "Role", "writer"))
        assert robot.ask("GET", f"{NS}/configmaps")[0] == 200
        made = {"metadata": {"name": "made"}, "data": {"a": "b"}}
        assert robot.ask("POST", f"{NS}/configmaps", made)[0] == 201
        assert robot.ask("GET", f"{NS}/secrets")[0] == 403
        assert robot.ask("GET", "/api/v1/namespaces/kube-system/configmaps")[0] == 403
        spec = {"resourceAttributes": {"verb": "create", "resource": "configmaps"}}
        spec["resourceAttributes"]["namespace"] = "default"
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        assert robot.ask("POST", path, {"spec": spec})[1]["status"]["allowed"]
        admin.delete(f"{RBAC}/namespaces/default/rolebindings/writer")
        assert robot.ask("GET", f"{NS}/configmaps")[0] == 403
        admin.close()


def test_an_admin_of_a_namespace_cannot_make_himself_one_of_the_cluster(tmp_path: Path) -> None:
    with cluster(tmp_path) as kubeconfig:
        admin = Api(kubeconfig)
        admin.create(f"{NS}/serviceaccounts", {"metadata": {"name": "robot"}})
        answer = admin.create(f"{NS}/serviceaccounts/robot/token", {"spec": {}})
        robot = Account(kubeconfig, answer["status"]["token"])
        bindings = f"{RBAC}/namespaces/default/rolebindings"
        admin.create(bindings, binding("admin", "ClusterRole", "admin"))
        mine = binding("more", "ClusterRole", "edit")
        assert robot.ask("POST", bindings, mine)[0] == 201
        mine = binding("most", "ClusterRole", "cluster-admin")
        code, status = robot.ask("POST", bindings, mine)
        assert (code, status["reason"]) == (403, "Forbidden")
        assert "not currently held" in status["message"]
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        code, _ = robot.ask("POST", f"{RBAC}/namespaces/default/roles", role("all", everything))
        assert code == 403
        assert robot.ask("POST", f"{RBAC}/clusterrolebindings", mine)[0] == 403
        with pytest.raises(Failed):
            admin.get(f"{bindings}/most")
        admin.close()


def test_a_namespaces_admin_may_ask_about_others_in_it(tmp_path: Path) -> None:
    with cluster(tmp_path) as kubeconfig:
        admin = Api(kubeconfig)
        admin.create(f"{NS}/serviceaccounts", {"metadata": {"name": "robot"}})
        answer = admin.create(f"{NS}/serviceaccounts/robot/token", {"spec": {}})
        robot = Account(kubeconfig, answer["status"]["token"])
        body = binding("admin", "ClusterRole", "admin")
        admin.create(f"{RBAC}/namespaces/default/rolebindings", body)
        asked = {"verb": "get", "resource": "pods", "namespace": "default"}
        review = {"spec": {"user": "jane", "resourceAttributes": asked}}
        where = "/apis/authorization.k8s.io/v1/namespaces/{}/localsubjectaccessreviews"
        code, found = robot.ask("POST", where.format("default"), review)
        assert (code, found["status"]) == (201, {"allowed": False})
        assert robot.ask("POST", where.format("kube-system"), review)[0] == 403
        code, found = admin_answer(admin, where.format("kube-system"), review)
        assert (code, found["reason"]) == (422, "Invalid")
        admin.close()


def admin_answer(api: Api, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    connection = api.connect()
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
