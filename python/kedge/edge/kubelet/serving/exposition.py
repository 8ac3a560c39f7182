# SPDX-License-Identifier: Apache-2.0
"""``/metrics`` and ``/metrics/probes`` under the kubelet's names, written when somebody asks.

The numbers are read from what the agent knows anyway (workers, the runtime's client, /proc). Loaded
with the first question.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kedge import metrics
from kedge.api.static_pods import SOURCE
from kedge.edge.kubelet.node import counts
from kedge.edge.kubelet.pod.state import ContainerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker
    from kedge.metrics import Histogram

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OPERATIONS = {
    "RunPodSandbox": "run_podsandbox",
    "StopPodSandbox": "stop_podsandbox",
    "RemovePodSandbox": "remove_podsandbox",
    "PodSandboxStatus": "podsandbox_status",
    "ListPodSandbox": "list_podsandbox",
    "UpdateContainerResources": "update_container",
}
"""Names that do not follow from CRI's own."""


def kubelet(
    workers: list[PodWorker],
    tools: Tools,
    version: str,
) -> str:
    """The kubelet's own figures, and the process's.

    Args:
        workers: of the node's pods.
        tools: the kubelet's shared parts.
        version: the agent's.
    """
    operations, relists = tools.runtime.operations(), counts.relists
    static = sum(
        one.pod["metadata"].get("annotations", {}).get(SOURCE) == "file" for one in workers
    )
    states: Counter[str] = Counter()
    pods = 0
    for worker in workers:
        observed = worker.observed()
        pods += observed.sandbox() is not None
        states.update(one.state.value for one in observed.containers if not one.is_lost)
    lines = [
        *_family("kubelet_node_name", "gauge", [({"node": tools.facts.node}, 1)]),
        *_family("kubelet_running_pods", "gauge", [({}, pods)]),
        *_family(
            "kubelet_desired_pods",
            "gauge",
            [({"static": ""}, len(workers) - static), ({"static": "true"}, static)],
        ),
        *_family(
            "kubelet_running_containers",
            "gauge",
            [({"container_state": one.value}, states[one.value]) for one in ContainerState],
        ),
        *_histogram("kubelet_pod_start_duration_seconds", [({}, counts.pod_start)]),
        *_histogram("kubelet_pleg_relist_duration_seconds", [({}, relists.durations)]),
        *_histogram("kubelet_pleg_relist_interval_seconds", [({}, relists.intervals)]),
        *_family("kubelet_pleg_last_seen_seconds", "gauge", [({}, relists.seen_at)]),
        *_started_pods(operations),
        *_operations(operations),
        *_histogram(
            "kubelet_runtime_operations_duration_seconds",
            [
                ({"operation_type": name}, found)
                for name, found in sorted(
                    (_operation(method), found)
                    for method, found in tools.runtime.durations().items()
                )
            ],
        ),
        *_cgroups(tools),
        *_family("kedge_build_info", "gauge", [({"version": version}, 1)]),
        *_process(),
    ]
    return "\n".join(lines) + "\n" + metrics.render().lstrip("\n")


def probes(workers: Iterable[PodWorker]) -> str:
    """``/metrics/probes``: how often each probe succeeded and failed."""
    rows = []
    for worker in workers:
        metadata = worker.pod["metadata"]
        whose = {
            "namespace": metadata["namespace"], "pod": metadata["name"], "pod_uid": worker.uid,
        }  # fmt: skip
        for (container, kind, is_good), count in worker.probing.results.items():
            what = {"container": container, "probe_type": kind.capitalize()}
            rows.append((what | whose | {"result": "successful" if is_good else "failed"}, count))
    return "".join(f"{line}\n" for line in _family("prober_probe_total", "counter", rows))


def health(problem: str) -> str:
    """``/metrics/slis``."""
    row = ({"name": "syncloop", "type": "healthz"}, 0 if problem else 1)
    return "".join(f"{line}\n" for line in _family("kubernetes_healthcheck", "gauge", [row]))


def _operations(operations: Mapping[tuple[str, bool], int]) -> list[str]:
    every: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for (method, is_failed), count in operations.items():
        name = _operation(method)
        every[name] += count
        if is_failed:
            failed[name] += count
    rows = [({"operation_type": name}, count) for name, count in sorted(every.items())]
    errors = [({"operation_type": name}, count) for name, count in sorted(failed.items())]
    return [
        *_family("kubelet_runtime_operations_total", "counter", rows),
        *_family("kubelet_runtime_operations_errors_total", "counter", errors),
    ]


def _operation(method: str) -> str:
    return _OPERATIONS.get(method) or _snake(method)


def _started_pods(operations: Mapping[tuple[str, bool], int]) -> list[str]:
    """A pod that is started, in the kubelet's sense, is a sandbox that is asked for."""
    failed = operations.get(("RunPodSandbox", True), 0)
    every = failed + operations.get(("RunPodSandbox", False), 0)
    return [
        *_family("kubelet_started_pods_total", "counter", [({}, every)]),
        *_family("kubelet_started_pods_errors_total", "counter", [({}, failed)]),
    ]


def _cgroups(tools: Tools) -> list[str]:
    if tools.cgroups is None:
        return []
    version = 2 if tools.cgroups.is_v2 else 1
    return _family("kubelet_cgroup_version", "gauge", [({}, version)])


def _histogram(name: str, rows: Iterable[tuple[Mapping[str, str], Histogram]]) -> list[str]:
    lines = [line for labels, found in rows for line in found.lines(name, **labels)]
    return [f"# TYPE {name} histogram", *lines] if lines else []


def _snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name).lstrip("_")


def _process() -> list[str]:
    """The agent's process, under the names that all Prometheus clients use."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    booted = next(
        (int(one.split()[1]) for one in _text("/proc/stat") if one.startswith("btime ")), 0
    )
    limit = next((one.split()[3] for one in _text("/proc/self/limits") if "open files" in one), "")
    found: list[tuple[str, str, float]] = [
        ("process_cpu_seconds_total", "counter", (int(stat[11]) + int(stat[12])) / ticks),
        ("process_start_time_seconds", "gauge", booted + int(stat[19]) / ticks),
        ("process_virtual_memory_bytes", "gauge", int(stat[20])),
        ("process_resident_memory_bytes", "gauge", int(stat[21]) * page),
        ("process_open_fds", "gauge", sum(1 for _ in Path("/proc/self/fd").iterdir())),
    ]
    if limit.isdigit():
        found.append(("process_max_fds", "gauge", int(limit)))
    return [line for name, kind, value in found for line in _family(name, kind, [({}, value)])]


def _text(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _family(name: str, kind: str, rows: Iterable[tuple[Mapping[str, str], float]]) -> list[str]:
    lines = []
    for labels, value in rows:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inner}}} {value}" if inner else f"{name} {value}")
    return [f"# TYPE {name} {kind}", *lines] if lines else []


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
