# SPDX-License-Identifier: Apache-2.0
"""What ``/stats/summary`` and ``/metrics/...`` are about: the node's pods and containers, for Rust.

Rust reads cgroups, interfaces and directories (``rust/kedge-core/src/stats``) once somebody asks;
here is only said which ones there are. Loaded with the first question: nodes that nobody asks do
without it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod.state import ContainerState
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.edge.kubelet.pod.state import Observed
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.volumes import Prepared
    from kedge.edge.kubelet.volumes.sources import Figures
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
    asked = list(workers)
    told = await _ask_drivers(asked, tools) if what in (SUMMARY, VOLUMES) else {}
    pods = []
    for worker in asked:
        observed = worker.observed()
        sandbox = observed.sandbox()
        if sandbox is not None:
            one = _pod(worker, observed, sandbox.id, stats, tools)
            one["volumes"] = volumes(worker.pod, worker.volumes or {}, told.get(worker.uid, {}))
            pods.append(one)
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


async def _ask_drivers(workers: list[PodWorker], tools: Tools) -> dict[str, dict[str, Figures]]:
    """What only drivers know of their volumes, by the UIDs of pods; for a bounded time."""
    uids = [
        one.uid for one in workers if any(volume.told_as for volume in (one.volumes or {}).values())
    ]
    told = await asyncio.gather(*(tools.volumes.usage(one) for one in uids))
    return dict(zip(uids, told, strict=True))


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
        "containers": listed,
    }


def volumes(
    pod: dict[str, Any], prepared: Mapping[str, Prepared], told: Mapping[str, Figures]
) -> list[dict[str, Any]]:
    """The pod's volumes that are its own, and where they are.

    Args:
        pod: its object.
        prepared: its volumes, by name.
        told: what drivers say of theirs; what they do not tell of is left out, as by a kubelet.
    """
    found: list[dict[str, Any]] = []
    for one in pod["spec"].get("volumes") or []:
        there = prepared.get(one["name"])
        if there is None or any(source in one for source in _NOT_MEASURED):
            continue
        claim = (one.get("persistentVolumeClaim") or {}).get("claimName", "")
        if "ephemeral" in one:
            claim = f"{pod['metadata']['name']}-{one['name']}"
        volume = {"name": one["name"], "path": there.path, "claim": claim}
        if there.told_as in told:
            found.append(volume | {"told": told[there.told_as]})
        elif not there.told_as and not there.is_block:
            found.append(volume)
    return found
