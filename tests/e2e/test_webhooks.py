# SPDX-License-Identifier: Apache-2.0
"""A webhook in a pod that no route leads to: it listens on its node's loopback only, and is asked through the node's link."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.webhook import WebhookServer, webhook_server
from tests.rig.kubectl import Kubectl
from tests.rig.pods import deployment
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CONFIGURATIONS = "validatingwebhookconfiguration"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebhookServer]:
    with webhook_server(tmp_path, ("hook.default.svc",)) as made:
        yield made


def configuration(server: WebhookServer) -> str:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
        "operations": ["CREATE"],
    }
    hook = {
        "name": "maps.example.com",
        "clientConfig": {
            "service": {"name": "hook", "namespace": "default", "path": "/in-a-pod"},
            "caBundle": server.ca,
        },
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    about = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
    }
    return json.dumps({**about, "metadata": {"name": "maps"}, "webhooks": [hook]})


def test_a_pod_is_reached_through_its_nodes_link(server: WebhookServer) -> None:
    with System.temporary("webhooks") as system:
        kubectl = Kubectl.of(system)
        workload = deployment("hook", 1)
        workload["spec"]["template"]["spec"]["hostNetwork"] = True
        kubectl("create", "-f", "-", stdin=json.dumps(workload))
        ports = [{"port": 443, "targetPort": server.port}]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hook"},
            "spec": {"selector": {"app": "hook"}, "ports": ports},
        }
        kubectl("create", "-f", "-", stdin=json.dumps(service))
        kubectl("rollout", "status", "deployment/hook", "--timeout=60s")
        wait_until(
            lambda: kubectl.json("get", "endpoints", "hook").get("subsets"), 20, "it has endpoints"
        )
        (subset,) = kubectl.json("get", "endpoints", "hook")["subsets"]
        assert [one["ip"] for one in subset["addresses"]] != ["127.0.0.1"]
        kubectl("create", "-f", "-", stdin=configuration(server))
        server.answer = lambda request: {
            "allowed": request["name"] == "good",
            "status": {"message": "no such maps", "code": 403, "reason": "Forbidden"},
        }
        refused = kubectl.run("create", "configmap", "bad", code=1).stderr
        assert 'admission webhook "maps.example.com" denied the request: no such maps' in refused
        kubectl("create", "configmap", "good")
        assert {one["path"] for one in server.asked} == {"/in-a-pod?timeout=10s"}
        kubectl("delete", CONFIGURATIONS, "maps")
