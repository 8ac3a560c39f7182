# SPDX-License-Identifier: Apache-2.0
"""What pods use, as metrics-server, Prometheus and kubectl read it through the API server."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.rig.kubectl import Kubectl
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BASE = "/api/v1/nodes/edge-1/proxy"
SPIN = "while :; do :; done"
FILL = "dd if=/dev/zero of=/tmp/written bs=1M count=3 2>&1; dd if=/dev/zero of=/work/file bs=1M count=2; echo done; exec sleep 1000000"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    found = {"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    return found | {"command": ["sh", "-c", script]} | more


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    with System.temporary("stats") as system:
        found = Kubectl.of(system)
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
        busy = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "busy", "labels": {"app": "busy"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "work", "emptyDir": {}}],
                "containers": [
                    container(
                        "spin", SPIN, resources={"limits": {"cpu": "200m", "memory": "64Mi"}}
                    ),
                    container(
                        "fill",
                        FILL,
                        volumeMounts=[{"name": "work", "mountPath": "/work"}],
                        readinessProbe=probe,
                    ),
                ],
            },
        }
        found("create", "-f", "-", stdin=json.dumps(busy))
        wait_until(
            lambda: "done" in found.run("logs", "busy", "-c", "fill", code=None).stdout,
            60,
            "the files are written",
        )
        yield found


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, from Prometheus's own reader of texts."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def value(
    found: dict[str, list[tuple[dict[str, str], float]]], name: str, /, **wanted: str
) -> float:
    """The only value of a name with these labels."""
    rows = [one for labels, one in found.get(name, []) if wanted.items() <= labels.items()]
    assert len(rows) == 1, f"{name}{wanted}: {rows}"
    return rows[0]


def image_bytes(kubectl: Kubectl) -> int:
    """What the node says that its images take."""
    found = json.loads(kubectl("get", "--raw", f"{BASE}/stats/summary"))
    return int(found["node"]["runtime"]["imageFs"]["usedBytes"])


def test_the_summary_has_machine_pod_and_containers(kubectl: Kubectl) -> None:
    kubectl("get", "--raw", f"{BASE}/stats/summary")
    time.sleep(1.5)
    found = json.loads(kubectl("get", "--raw", f"{BASE}/stats/summary"))
    node = found["node"]
    assert node["nodeName"] == "edge-1"
    assert node["cpu"]["usageNanoCores"] > 0
    assert 0 < node["memory"]["workingSetBytes"] < node["memory"]["usageBytes"]
    assert node["fs"]["capacityBytes"] > node["fs"]["availableBytes"] > 0
    # containerd looks at its own file system every ten seconds, not when it is asked.
    wait_until(lambda: image_bytes(kubectl), 30, "the runtime has counted its images")
    (pod,) = [one for one in found["pods"] if one["podRef"]["name"] == "busy"]
    spin, fill = sorted(pod["containers"], key=lambda one: -one["cpu"]["usageCoreNanoSeconds"])
    assert (spin["name"], fill["name"]) == ("spin", "fill")
    assert 100_000_000 < spin["cpu"]["usageNanoCores"] < 300_000_000, "its limit is 200m"
    assert spin["memory"]["workingSetBytes"] < 64 << 20
    assert spin["memory"]["availableBytes"] > 0
    wait_until(lambda: written(kubectl) >= 3 << 20, 30, "the runtime has measured what was written")
    assert fill["logs"]["usedBytes"] > 0
    (volume,) = [one for one in pod["volume"] if one["name"] == "work"]
    assert volume["usedBytes"] >= 2 << 20
    assert pod["network"]["name"] == "eth0"
    assert pod["network"]["rxBytes"] >= 0
    assert pod["ephemeral-storage"]["usedBytes"] >= 2 << 20
    short = json.loads(kubectl("get", "--raw", f"{BASE}/stats/summary?only_cpu_and_memory=true"))
    assert "fs" not in short["node"]
    assert "network" not in short["pods"][0]


def written(kubectl: Kubectl) -> int:
    found = json.loads(kubectl("get", "--raw", f"{BASE}/stats/summary"))
    (pod,) = [one for one in found["pods"] if one["podRef"]["name"] == "busy"]
    (fill,) = [one for one in pod["containers"] if one["name"] == "fill"]
    return int(fill["rootfs"].get("usedBytes", 0))


def test_resource_metrics_are_what_metrics_server_reads(kubectl: Kubectl) -> None:
    found = samples(kubectl("get", "--raw", f"{BASE}/metrics/resource"))
    assert value(found, "node_cpu_usage_seconds_total") > 0
    assert value(found, "node_memory_working_set_bytes") > 1 << 20
    spin = {"namespace": "default", "pod": "busy", "container": "spin"}
    assert value(found, "container_cpu_usage_seconds_total", **spin) > 0
    assert value(found, "container_memory_working_set_bytes", **spin) > 0
    assert value(found, "container_start_time_seconds", **spin) > 1.7e9
    assert value(found, "pod_cpu_usage_seconds_total", namespace="default", pod="busy") > 0
    assert value(found, "resource_scrape_error") == 0


def test_prometheus_reads_cadvisors_names_with_their_labels(kubectl: Kubectl) -> None:
    found = samples(kubectl("get", "--raw", f"{BASE}/metrics/cadvisor"))
    spin = {"namespace": "default", "pod": "busy", "container": "spin"}
    assert value(found, "container_cpu_usage_seconds_total", **spin, cpu="total") > 0
    assert value(found, "container_cpu_cfs_periods_total", **spin) > 0
    assert value(found, "container_cpu_cfs_throttled_periods_total", **spin) > 0
    assert value(found, "container_spec_memory_limit_bytes", **spin) == 64 << 20
    assert value(found, "container_spec_cpu_quota", **spin) == 20_000
    assert value(found, "container_memory_working_set_bytes", **spin) > 0
    network = {"namespace": "default", "pod": "busy", "interface": "eth0"}
    assert value(found, "container_network_receive_bytes_total", **network) >= 0
    assert value(found, "machine_memory_bytes") > 1 << 20
    assert value(found, "container_memory_working_set_bytes", id="/") > 0
    labels = next(one for one, _ in found["container_memory_rss"] if one["container"] == "spin")
    assert labels["image"] == IMAGE
    assert labels["name"] in labels["id"]


def test_the_kubelets_own_metrics_and_probes_are_there(kubectl: Kubectl) -> None:
    found = samples(kubectl("get", "--raw", f"{BASE}/metrics"))
    assert value(found, "kubelet_running_pods") == 1
    assert value(found, "kubelet_running_containers", container_state="running") == 2
    assert value(found, "kubelet_pod_start_duration_seconds_count") == 1
    assert value(found, "kubelet_runtime_operations_total", operation_type="run_podsandbox") == 1
    assert value(found, "kubelet_started_pods_total") == 1
    assert value(found, "kubelet_started_containers_total", container_type="container") == 2
    operation = "kubelet_runtime_operations_duration_seconds_count"
    assert value(found, operation, operation_type="run_podsandbox") == 1
    assert value(found, "kubelet_pleg_relist_duration_seconds_count") > 0
    assert value(found, "kubelet_pleg_last_seen_seconds") > 1.7e9
    assert value(found, "kubelet_cgroup_version") in (1, 2)
    asked = {"method": "GET", "path": "metrics", "long_running": "false"}
    before = value(found, "kubelet_http_requests_total", **asked)
    found = samples(kubectl("get", "--raw", f"{BASE}/metrics"))
    assert value(found, "kubelet_http_requests_total", **asked) == before + 1
    assert value(found, "process_resident_memory_bytes") > 1 << 20
    found = samples(kubectl("get", "--raw", f"{BASE}/metrics/probes"))
    ready = {"pod": "busy", "container": "fill", "probe_type": "Readiness"}
    assert value(found, "prober_probe_total", **ready, result="successful") > 0
    found = samples(kubectl("get", "--raw", f"{BASE}/metrics/slis"))
    assert value(found, "kubernetes_healthcheck", name="syncloop") == 1


def test_other_paths_are_answered_or_refused_in_words(kubectl: Kubectl) -> None:
    running = json.loads(kubectl("get", "--raw", f"{BASE}/runningpods/"))
    assert [one["metadata"]["name"] for one in running["items"]] == ["busy"]
    settings = json.loads(kubectl("get", "--raw", f"{BASE}/configz"))["kubeletconfig"]
    assert settings["nodeName"] == "edge-1"
    refused = kubectl.run("get", "--raw", f"{BASE}/logs/syslog", code=1).stderr
    assert "not served" in refused or "forbidden" in refused.lower()


def test_top_is_built_in(kubectl: Kubectl) -> None:
    lines = kubectl("top", "nodes", "--no-headers").split()
    assert lines[0] == "edge-1"
    assert lines[1].endswith("m")
    rows = kubectl("top", "pods", "--containers", "--no-headers").splitlines()
    spin = next(row.split() for row in rows if "spin" in row)
    assert spin[:2] == ["busy", "spin"]
    assert 100 <= int(spin[2].removesuffix("m")) <= 300, "its limit is 200m"
    assert spin[3].endswith("Mi")
    raw = json.loads(kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/edge-1"))
    assert (raw["kind"], raw["metadata"]["name"]) == ("NodeMetrics", "edge-1")
    assert raw["window"].endswith("s")
    groups = json.loads(kubectl("get", "--raw", "/apis"))["groups"]
    assert "metrics.k8s.io" in [one["name"] for one in groups]
    refused = kubectl.run("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/no", code=1).stderr
    assert "not found" in refused
    absent = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dother"
    assert json.loads(kubectl("get", "--raw", absent))["items"] == []


def test_a_service_account_that_may_scrapes_and_no_other(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "prometheus")
    rules = ["--verb=get", "--resource=nodes,nodes/proxy"]
    kubectl("create", "clusterrole", "scraper", *rules)

    def scrape(token: str) -> tuple[int, str]:
        cluster = yaml.safe_load(kubectl.kubeconfig.read_text())["clusters"][0]["cluster"]
        url = urllib.parse.urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        client = http.client.HTTPSConnection(
            url.hostname or "", url.port, context=ssl.create_default_context(cadata=authority)
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client.request("GET", f"{BASE}/metrics/cadvisor", headers=headers)
        answer = client.getresponse()
        found = answer.status, answer.read().decode()
        client.close()
        return found

    token = kubectl("create", "token", "prometheus").strip()
    assert scrape("")[0] == 401
    assert scrape(token)[0] == 403
    account = "--serviceaccount=default:prometheus"
    kubectl("create", "clusterrolebinding", "scraper", "--clusterrole=scraper", account)
    wait_until(lambda: scrape(token)[0] == 200, 10, "the binding is known")
    assert value(samples(scrape(token)[1]), "machine_cpu_cores") >= 1
