# SPDX-License-Identifier: Apache-2.0
"""``kubectl drain`` against a control plane alone: budgets hold it up, and nothing else does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.rig.api import Api
from tests.rig.control import cluster
from tests.rig.processes import wait_until

pytestmark = pytest.mark.timeout(120)

NS = "/api/v1/namespaces/default"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
NOW = "2026-01-01T00:00:00Z"


def drain(kubeconfig: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/bin/kubectl", "--kubeconfig", str(kubeconfig), "drain", "n1", "--force", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def make(api: Api) -> None:
    """A node with a ready pod, and a budget that wants it to stay."""
    api.create("/api/v1/nodes", {"metadata": {"name": "n1"}})
    body: dict[str, Any] = {
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    }
    api.create(f"{NS}/pods", body)
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": NOW}
    api.merge(f"{NS}/pods/web/status", {"status": {"phase": "Running", "conditions": [ready]}})
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    api.create(BUDGETS, {"metadata": {"name": "web"}, "spec": spec})
    wait_until(
        lambda: api.get(f"{BUDGETS}/web")["status"].get("currentHealthy") == 1, 20, "it is counted"
    )


def test_drain_waits_for_budgets_and_evicts_without_them(tmp_path: Path):
    with cluster(tmp_path) as kubeconfig:
        api = Api(kubeconfig)
        try:
            make(api)
            held = drain(kubeconfig, "--timeout=3s")
            assert held.returncode != 0
            assert "Cannot evict pod as it would violate the pod's disruption budget" in held.stderr
            assert "deletionTimestamp" not in api.get(f"{NS}/pods/web")["metadata"]
            api.delete(f"{BUDGETS}/web")
            tried = drain(kubeconfig, "--timeout=3s", "--dry-run=server")
            assert "deletionTimestamp" not in api.get(f"{NS}/pods/web")["metadata"], tried.stdout
            drain(kubeconfig, "--timeout=3s")
            left = api.get(f"{NS}/pods/web")
            assert "deletionTimestamp" in left["metadata"]
            reasons = {one["type"]: one.get("reason") for one in left["status"]["conditions"]}
            assert reasons["DisruptionTarget"] == "EvictionByEvictionAPI"
        finally:
            api.close()
