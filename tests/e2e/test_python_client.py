# SPDX-License-Identifier: Apache-2.0
"""The official Python client, unmodified, against a real ``python -m kedge.cluster``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import control
from tests.rig.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with control.cluster(tmp_path_factory.mktemp("cluster")) as path:
        yield path


@pytest.fixture(scope="module")
def kube(kubeconfig):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kubernetes

        kubernetes.config.load_kube_config(str(kubeconfig))
    return kubernetes


def test_objects_are_created_listed_patched_watched_and_deleted(kube):
    core = kube.client.CoreV1Api()
    core.create_namespace({"metadata": {"name": "py"}})
    wait_until(lambda: core.list_namespaced_service_account("py").items, 10, "the account is there")
    body = kube.client.V1Pod(
        metadata=kube.client.V1ObjectMeta(name="p", labels={"app": "p"}),
        spec=kube.client.V1PodSpec(containers=[kube.client.V1Container(name="c", image="i:1")]),
    )
    made = core.create_namespaced_pod("py", body)
    assert made.status.phase == "Pending"
    patched = core.patch_namespaced_pod("p", "py", {"metadata": {"labels": {"tier": "x"}}})
    assert patched.metadata.labels == {"app": "p", "tier": "x"}
    core.patch_namespaced_pod_status(
        "p",
        "py",
        {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
    )
    assert [
        pod.status.phase for pod in core.list_namespaced_pod("py", label_selector="tier=x").items
    ] == ["Running"]
    first = core.list_namespaced_pod("py").metadata.resource_version
    core.delete_namespaced_pod("p", "py")
    seen = []
    for event in kube.watch.Watch().stream(
        core.list_namespaced_pod, "py", resource_version=first, timeout_seconds=5
    ):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            break
    assert seen[-1] == "DELETED"
    core.delete_namespace("py")
    wait_until(
        lambda: "py" not in [one.metadata.name for one in core.list_namespace().items],
        20,
        "the namespace is gone",
    )


def test_a_deployment_is_scaled_and_replaced(kube):
    apps = kube.client.AppsV1Api()
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    }
    apps.create_namespaced_deployment(
        "default",
        {
            "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
        },
    )
    apps.patch_namespaced_deployment_scale("d", "default", {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment_scale("d", "default").spec.replicas == 3
    wait_until(
        lambda: len(kube.client.CoreV1Api().list_namespaced_pod("default").items) == 3,
        10,
        "pods are there",
    )
    found = apps.read_namespaced_deployment("d", "default")
    found.spec.template.spec.containers[0].image = "i:2"
    stale = apps.read_namespaced_deployment("d", "default")
    stale.metadata.resource_version = "1"
    with pytest.raises(kube.client.ApiException) as caught:
        apps.replace_namespaced_deployment("d", "default", stale)
    assert caught.value.status == 409
    apps.delete_namespaced_deployment("d", "default")


def test_tokens_are_made_and_reviewed(kube):
    core, authentication = kube.client.CoreV1Api(), kube.client.AuthenticationV1Api()
    request = kube.client.AuthenticationV1TokenRequest(
        spec=kube.client.V1TokenRequestSpec(audiences=["a"], expiration_seconds=600)
    )
    token = core.create_namespaced_service_account_token("default", "default", request).status.token
    review = authentication.create_token_review({"spec": {"token": token, "audiences": ["a"]}})
    assert review.status.authenticated
    assert review.status.user.username == "system:serviceaccount:default:default"
    foreign = authentication.create_token_review({"spec": {"token": token, "audiences": ["b"]}})
    assert not foreign.status.authenticated
    assert foreign.status.error


def test_refusals_carry_causes(kube):
    with pytest.raises(kube.client.ApiException) as caught:
        kube.client.CoreV1Api().create_namespaced_pod(
            "default", {"metadata": {"name": "x"}, "spec": {"containers": []}}
        )
    assert caught.value.status == 422
    assert "spec.containers" in caught.value.body
