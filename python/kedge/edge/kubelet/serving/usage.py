# SPDX-License-Identifier: Apache-2.0
"""What ``/stats/summary`` and ``/metrics/...`` are about: the node's pods and containers, for Rust.

Rust reads cgroups, interfaces and directories (``rust/kedge-core/src/stats``) once somebody asks;
here is only said which ones there are. Loaded with the first question: nodes that nobody asks do
without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod.state import ContainerState
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.edge.kubelet.pod.state import Observed
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.volumes import Prepared
    from kedge.edge.kubelet.worker import PodWorker
    from kedge.edge.runtime import ContainerStats

SUMMARY, SHORT_SUMMARY = "summary", "summary_of_cpu_and_memory"
RESOURCE, CADVISOR, VOLUMES = "resource", "cadvisor", "volumes"
_NOT_MEASURED = ("hostPath", "nfs", "image")
"""Volumes whose files are not the pod's."""


async def world(
    what: str, workers: Iterable[PodWorker], tools: Tools, *, before: str = ""
) -> dict[str, Any]:
    """What is to be read.

    Args:
        what: which answer is wanted.
        workers: of the node's pods.
        tools: the kubelet's shared parts.
        before: text that goes before the answer.
    """
    stats: dict[str, ContainerStats] = {}
    images: dict[str, Any] = {}
    if what in (SUMMARY, CADVISOR):
        stats, images = await _ask_runtime(tools)
    pods = []
    for worker in workers:
        observed = worker.observed()
        sandbox = observed.sandbox()
        if sandbox is not None:
            pods.append(_pod(worker, observed, sandbox.id, stats, tools))
    cgroups = tools.cgroups
    found = {
        "what": what,
        "before": before,
        "node": tools.facts.node,
        "data": str(tools.paths.pods),
        "kubepods": cgroups.names.path(cgroups.names.of("kubepods")) if cgroups else "",
        "pods": pods,
    }
    return found | ({"images": images} if images else {})


async def _ask_runtime(tools: Tools) -> tuple[dict[str, ContainerStats], dict[str, Any]]:
    """What only the runtime knows: files written by containers, and its images."""
    try:
        stats = {one.id: one for one in await tools.runtime.container_stats()}
        disks = await tools.runtime.image_filesystems()
    except RuntimeFailure:
        # Cgroups tell the rest, also while the runtime does not answer.
        return {}, {}
    first = next(iter(disks), None)
    if first is None:
        return stats, {}
    return stats, {"mountpoint": first.mountpoint, "used_bytes": first.used_bytes}


def _pod(
    worker: PodWorker,
    observed: Observed,
    sandbox_id: str,
    stats: dict[str, ContainerStats],
    tools: Tools,
) -> dict[str, Any]:
    metadata, spec = worker.pod["metadata"], worker.pod["spec"]
    cgroups = tools.cgroups
    running = [
        one
        for one in observed.containers
        if one.state is ContainerState.RUNNING and not one.is_lost
    ]
    listed = []
    for one in running:
        container = {
            "name": one.name, "id": one.id, "image": one.image, "started": one.started_at,
        }  # fmt: skip
        if one.id in stats:
            container["rootfs_bytes"] = stats[one.id].disk_bytes
            container["rootfs_inodes"] = stats[one.id].disk_inodes
        listed.append(container)
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": worker.uid,
        "started": worker.started_at,
        "cgroup": cgroups.names.path(cgroups.names.pod(worker.pod)) if cgroups else "",
        "sandbox": sandbox_id,
        "host_network": bool(spec.get("hostNetwork")),
        "logs": str(tools.paths.log_directory(worker.pod)),
        "volumes": volumes(worker.pod, worker.volumes or {}),
        "containers": listed,
    }


def volumes(pod: dict[str, Any], prepared: Mapping[str, Prepared]) -> list[dict[str, str]]:
    """The pod's volumes that are its own, and where they are."""
    found = []
    for one in pod["spec"].get("volumes") or []:
        there = prepared.get(one["name"])
        if there is None or there.is_block or any(source in one for source in _NOT_MEASURED):
            continue
        claim = (one.get("persistentVolumeClaim") or {}).get("claimName", "")
        if "ephemeral" in one:
            claim = f"{pod['metadata']['name']}-{one['name']}"
        found.append({"name": one["name"], "path": there.path, "claim": claim})
    return found
