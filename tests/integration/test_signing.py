# SPDX-License-Identifier: Apache-2.0
"""Certificates by request from a running cluster: approved by kubectl, signed, and good for the API."""

from __future__ import annotations

import base64
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kedge.hub import certificates
from tests.fakes import requests
from tests.rig.api import Api, Failed
from tests.rig.control import cluster
from tests.rig.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cluster(tmp_path_factory.mktemp("cluster")) as path:
        yield path


@pytest.fixture
def admin(kubeconfig: Path) -> Iterator[Api]:
    api = Api(kubeconfig)
    yield api
    api.close()


def body(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


def status(api: Api, name: str, *kinds: str) -> dict[str, Any]:
    """Waits until a request has such conditions, or a certificate."""

    def has_all() -> bool:
        found = api.get(f"{CSRS}/{name}").get("status", {})
        have = {one["type"] for one in found.get("conditions", ())}
        return all(kind in have or kind in found for kind in kinds)

    wait_until(has_all, 10, f"{name} has {kinds}")
    found: dict[str, Any] = api.get(f"{CSRS}/{name}")["status"]
    return found


def as_user(kubeconfig: Path, directory: Path, certificate: str, key: str) -> Api:
    """A client with a certificate of its own."""
    content = yaml.safe_load(kubeconfig.read_text())
    content["users"][0]["user"] = {
        "client-certificate-data": certificate,
        "client-key-data": requests.encoded(key),
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return Api(path)


def bind(api: Api, name: str, role: str, user: str) -> None:
    subject = {"kind": "User", "name": user}
    reference = {"kind": "ClusterRole", "name": role}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    api.create(f"{RBAC}/clusterrolebindings", binding)


def test_a_certificate_that_kubectl_approved_is_good_for_the_api(
    kubeconfig: Path, admin: Api, tmp_path: Path
) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")

    def run(*words: str, text: str = "") -> str:
        command = [kubectl, "--kubeconfig", str(kubeconfig), *words]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=True, timeout=30
        ).stdout

    pair = certificates.make_csr("jane", ["dev"])
    spec = requests.spec(pair.certificate, expirationSeconds=86_400)
    assert "created" in run("create", "-f", "-", text=yaml.safe_dump(body("jane", spec)))
    assert "approved" in run("certificate", "approve", "jane")
    signed = status(admin, "jane", "certificate")["certificate"]
    details = certificates.inspect(base64.b64decode(signed).decode())
    assert (details.common_name, details.organizations) == ("jane", ("dev",))
    jane = as_user(kubeconfig, tmp_path, signed, pair.key)
    with pytest.raises(Failed, match=r'User .+jane.+ cannot list resource .+"pods'):
        jane.get("/api/v1/namespaces/default/pods")
    bind(admin, "jane", "view", "jane")
    assert jane.get("/api/v1/namespaces/default/pods")["items"] == []
    jane.close()
    run("create", "-f", "-", text=yaml.safe_dump(body("john", requests.spec())))
    assert "denied" in run("certificate", "deny", "john")
    assert "certificate" not in status(admin, "john", "Denied")


def test_who_may_approve_for_one_signer_may_not_for_another(
    kubeconfig: Path, admin: Api, tmp_path: Path
) -> None:
    pair = certificates.make_csr("approver")
    admin.create(CSRS, body("approver", requests.spec(pair.certificate)))
    approve = {"status": {"conditions": [requests.condition("Approved")]}}
    admin.merge(f"{CSRS}/approver/approval", approve)
    signed = status(admin, "approver", "certificate")["certificate"]
    approver = as_user(kubeconfig, tmp_path, signed, pair.key)
    rule = {
        "verbs": ["patch"],
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests/approval"],
    }
    role = {"metadata": {"name": "approval"}, "rules": [rule]}
    admin.create(f"{RBAC}/clusterroles", role)
    bind(admin, "approval", "approval", "approver")
    bind(admin, "mine", "system:certificates.k8s.io:kube-apiserver-client-approver", "approver")
    admin.create(CSRS, body("mine", requests.spec()))
    admin.create(CSRS, body("other", requests.spec(signer="example.com/x")))
    approver.merge(f"{CSRS}/mine/approval", approve)
    with pytest.raises(Failed, match="user not permitted to approve requests with signerName"):
        approver.merge(f"{CSRS}/other/approval", approve)
    approver.close()


def test_a_kubelet_gets_its_next_certificate_without_anybody(
    kubeconfig: Path, admin: Api, tmp_path: Path
) -> None:
    pair = certificates.make_csr("system:node:edge-1", ["system:nodes"])
    spec = requests.spec(
        pair.certificate, requests.KUBELET, usages=["client auth", "digital signature"]
    )
    admin.create(CSRS, body("first", spec))
    admin.merge(
        f"{CSRS}/first/approval", {"status": {"conditions": [requests.condition("Approved")]}}
    )
    signed = status(admin, "first", "certificate")["certificate"]
    kubelet = as_user(kubeconfig, tmp_path, signed, pair.key)
    name = "system:node:edge-1"
    bind(admin, "bootstrap", "system:node-bootstrapper", name)
    renewal = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
    bind(admin, "renewal", renewal, name)
    kubelet.create(CSRS, body("second", requests.of_node("edge-1")))
    found = status(kubelet, "second", "Approved", "certificate")
    assert found["conditions"][0]["reason"] == "AutoApproved"
    kubelet.create(CSRS, body("stranger", requests.of_node("edge-2")))
    admin.merge(
        f"{CSRS}/stranger/approval", {"status": {"conditions": [requests.condition("Denied")]}}
    )
    assert [one["type"] for one in status(admin, "stranger", "Denied")["conditions"]] == ["Denied"]
    kubelet.close()


def test_what_cannot_be_signed_says_why(admin: Api) -> None:
    admin.create(CSRS, body("short", requests.spec(expirationSeconds=3600)))
    admin.merge(
        f"{CSRS}/short/approval", {"status": {"conditions": [requests.condition("Approved")]}}
    )
    failed = status(admin, "short", "Failed")["conditions"][1]
    assert failed["reason"] == "SignerValidationFailure"
    assert "expirationSeconds is 3600" in failed["message"]
