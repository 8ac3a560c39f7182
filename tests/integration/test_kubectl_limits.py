# SPDX-License-Identifier: Apache-2.0
"""What kubectl's users see of limits, quotas, pod security and webhooks, on a control plane alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.webhook import webhook_server
from tests.rig.control import cluster
from tests.rig.kubectl import Kubectl
from tests.rig.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

LIMITS = """
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec:
  limits:
    - {type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 100m}, max: {cpu: "2"}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {pods: "2", requests.cpu: 300m}}
"""


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    directory = tmp_path_factory.mktemp("cluster")
    with cluster(directory) as kubeconfig:
        yield Kubectl("/usr/bin/kubectl", kubeconfig, "default", directory)


def within(admin: Kubectl, namespace: str) -> Kubectl:
    """The same in a new namespace."""
    admin("create", "namespace", namespace)
    made = Kubectl(admin.program, admin.kubeconfig, namespace, admin.home)
    made.wait_for_account()
    return made


def used(kubectl: Kubectl, name: str = "q") -> dict[str, str]:
    found: dict[str, str] = kubectl.json("get", "quota", name).get("status", {}).get("used", {})
    return found


def test_defaults_bounds_and_quotas(admin: Kubectl) -> None:
    team = within(admin, "team")
    team("apply", "-f", "-", stdin=LIMITS)
    wait_until(lambda: used(team).keys() == {"pods", "requests.cpu"}, 20, "the quota is counted")
    team("run", "a", "--image=i")
    (container,) = team.json("get", "pod", "a")["spec"]["containers"]
    assert container["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    big = json.dumps({"spec": {"containers": [{"name": "b", "image": "i", "resources": {"limits": {"cpu": "3"}}}]}})  # fmt: skip
    refused = team.run("run", "b", "--image=i", f"--overrides={big}", code=1).stderr
    assert "maximum cpu usage per Container is 2, but limit is 3" in refused
    team("run", "c", "--image=i")
    refused = team.run("run", "d", "--image=i", code=1).stderr
    assert refused == (
        'Error from server (Forbidden): pods "d" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, '
        "limited: pods=2\n"
    )
    shown = [line.split() for line in team("describe", "quota", "q").splitlines()]
    assert ["pods", "2", "2"] in shown
    assert ["requests.cpu", "200m", "300m"] in shown
    team("delete", "pod", "a")
    wait_until(lambda: used(team)["pods"] == "1", 20, "what went is given back")


def test_pod_security_refuses_and_warns(admin: Kubectl) -> None:
    secure = within(admin, "secure")
    labels = ("pod-security.kubernetes.io/enforce=baseline", "pod-security.kubernetes.io/warn=restricted")  # fmt: skip
    admin("label", "namespace", "secure", *labels)
    host = json.dumps({"spec": {"hostNetwork": True}})
    refused = secure.run("run", "p", "--image=i", f"--overrides={host}", code=1).stderr
    assert refused.endswith(
        'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)\n'
    )
    warned = secure.run("create", "deployment", "d", "--image=i").stderr
    assert warned.startswith('Warning: would violate PodSecurity "restricted:latest": ')
    wait_until(lambda: secure.json("get", "pods")["items"], 20, "its pod is made all the same")
    odd = admin.run(
        "label", "--overwrite", "namespace", "secure", "pod-security.kubernetes.io/enforce=odd", code=1
    )  # fmt: skip
    assert "must be one of privileged, baseline, restricted" in odd.stderr


def test_webhooks_change_and_refuse(admin: Kubectl, tmp_path: Path) -> None:
    def configuration(kind: str, client: dict[str, Any]) -> str:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}  # fmt: skip
        selector = {"matchLabels": {"kubernetes.io/metadata.name": "hooked"}}
        hook = {
            "name": "maps.example.com",
            "clientConfig": client,
            "rules": [rule],
            "namespaceSelector": selector,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        about = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration"}  # fmt: skip
        return json.dumps({**about, "metadata": {"name": kind.lower()}, "webhooks": [hook]})

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["path"].startswith("/mutate"):
            return {"patch": [{"op": "add", "path": "/data", "value": {"by": "hook"}}]}
        allowed = request["name"] != "bad" and request["object"].get("data") == {"by": "hook"}
        status = {"message": "no such maps", "reason": "Forbidden", "code": 403}
        return {"allowed": allowed, "status": status, "warnings": ["looked at"]}

    with webhook_server(tmp_path) as server:
        hooked = within(admin, "hooked")
        server.answer = answer
        for kind, path in (("Mutating", "/mutate"), ("Validating", "/judge")):
            admin("apply", "-f", "-", stdin=configuration(kind, server.client(path)))
        made = hooked.run("create", "configmap", "good")
        assert made.stderr == "Warning: looked at\n"
        assert hooked.json("get", "configmap", "good")["data"] == {"by": "hook"}
        refused = hooked.run("create", "configmap", "bad", code=1).stderr
        assert 'admission webhook "maps.example.com" denied the request: no such maps' in refused
    refused = hooked.run("create", "configmap", "late", code=1).stderr
    assert 'failed calling webhook "maps.example.com": failed to call webhook: Post "https://localhost:' in refused  # fmt: skip
    admin("delete", "mutatingwebhookconfiguration", "mutating")
    admin("delete", "validatingwebhookconfiguration", "validating")
    hooked("create", "configmap", "late")
