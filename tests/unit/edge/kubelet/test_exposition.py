# SPDX-License-Identifier: Apache-2.0
"""Texts of ``/metrics`` that a maintained parser takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from kedge.edge.kubelet.node.counts import Relists
from kedge.edge.kubelet.serving import exposition, usage
from kedge.edge.kubelet.volumes import Prepared
from kedge.metrics import Histogram


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def test_a_histogram_counts_each_value_in_its_bucket_and_those_above() -> None:
    times = Histogram(1, 2)
    for value in (0.5, 1.0, 1.5, 9.0):
        times.add(value)
    found = parsed("\n".join(["# TYPE t histogram", *times.lines("t")]) + "\n")
    assert found["t_bucket"] == {(("le", "1"),): 2, (("le", "2"),): 3, (("le", "+Inf"),): 4}
    assert (found["t_sum"][()], found["t_count"][()]) == (12.0, 4)
    labelled = parsed("\n".join(["# TYPE t histogram", *times.lines("t", kind='a"b')]) + "\n")
    assert labelled["t_count"] == {(("kind", 'a"b'),): 4}
    assert labelled["t_bucket"][("kind", 'a"b'), ("le", "2")] == 3


def test_looks_at_the_runtime_count_only_when_they_succeed() -> None:
    relists = Relists()
    relists.begin(10.0)
    relists.succeed(0.5, 1000.0)
    relists.begin(12.0)
    assert (sum(relists.durations.counts), relists.intervals.total, relists.seen_at) == (
        1,
        2.0,
        1000.0,
    )


def test_the_runtimes_calls_have_the_kubelets_names() -> None:
    calls = {("RunPodSandbox", False): 3, ("RunPodSandbox", True): 1, ("PullImage", False): 2}
    times = Histogram(1)
    times.add(0.5)
    runtime = SimpleNamespace(
        operations=lambda: calls, durations=lambda: {"RunPodSandbox": times, "PullImage": times}
    )
    tools: Any = SimpleNamespace(
        runtime=runtime, facts=SimpleNamespace(node="n"), cgroups=SimpleNamespace(is_v2=True)
    )
    found = parsed(exposition.kubelet([], tools, "1"))
    run = (("operation_type", "run_podsandbox"),)
    assert found["kubelet_runtime_operations_total"][run] == 4
    assert found["kubelet_runtime_operations_errors_total"] == {run: 1}
    assert found["kubelet_running_pods"][()] == 0
    assert found["kubelet_started_pods_total"][()] == 4
    assert found["kubelet_started_pods_errors_total"][()] == 1
    assert found["kubelet_runtime_operations_duration_seconds_count"][run] == 1
    assert found["kubelet_cgroup_version"][()] == 2
    assert found["kubelet_desired_pods"] == {(("static", ""),): 0, (("static", "true"),): 0}
    assert found["process_resident_memory_bytes"][()] > 1 << 20
    assert found["process_cpu_seconds_total"][()] > 0


def test_health_is_a_number() -> None:
    key = (("name", "syncloop"), ("type", "healthz"))
    assert parsed(exposition.health(""))["kubernetes_healthcheck"] == {key: 1}
    assert parsed(exposition.health("ill"))["kubernetes_healthcheck"] == {key: 0}


def test_the_machines_own_directories_are_not_measured() -> None:
    spec = {
        "volumes": [
            {"name": "host", "hostPath": {"path": "/"}},
            {"name": "work", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "big"}},
            {"name": "late", "emptyDir": {}},
        ]
    }
    paths = {"host": Prepared("/"), "work": Prepared("/w"), "data": Prepared("/d")}
    assert usage.volumes({"metadata": {"name": "p"}, "spec": spec}, paths, {}) == [
        {"name": "work", "path": "/w", "claim": ""},
        {"name": "data", "path": "/d", "claim": "big"},
    ]


def test_a_drivers_volume_is_told_of_by_its_driver_or_not_at_all() -> None:
    names = ("file", "silent", "device", "raw")
    spec = {
        "volumes": [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in names]
    }
    paths = {
        "file": Prepared("/f", told_as="pv-f"),
        "silent": Prepared("/s", told_as="pv-s"),
        "device": Prepared("/d", is_block=True, told_as="pv-d"),
        "raw": Prepared("/dev/sdx", is_block=True),
    }
    told = {"pv-f": {"bytes_used": 1}, "pv-d": {"bytes_total": 2}}
    assert usage.volumes({"metadata": {"name": "p"}, "spec": spec}, paths, told) == [
        {"name": "file", "path": "/f", "claim": "file", "told": {"bytes_used": 1}},
        {"name": "device", "path": "/d", "claim": "device", "told": {"bytes_total": 2}},
    ]
