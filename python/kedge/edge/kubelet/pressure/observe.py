# SPDX-License-Identifier: Apache-2.0
"""Measures what is left of the node's resources, and what each pod takes.

The first costs a few small files of /proc and a ``statvfs`` or two. The second reads cgroups and walks
directories, so it is done only when a threshold is met, and for pods that have limits of local storage.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kedge.edge.kubelet.node import node_info
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pressure.decide import Reading, Usage
from kedge.edge.kubelet.resources import resources
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.resources.cgroups import Cgroups
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.worker import PodWorker

MAX_ENTRIES = 500_000
"""Files counted below one directory at most; a pod with more is over any limit worth setting."""


def readings(disk: Path, images: Path | None, root: Path = node_info.ROOT) -> dict[str, Reading]:
    """What is left, by signal; what cannot be read is absent.

    Args:
        disk: a path on the file system of pods.
        images: a path on that of images; None takes it to be the same.
        root: where /proc is.
    """
    found = {}
    memory = node_info.meminfo(root)
    if "MemAvailable" in memory and "MemTotal" in memory:
        found["memory.available"] = Reading(memory["MemAvailable"], memory["MemTotal"])
    for name, path in (("nodefs", disk), ("imagefs", images or disk)):
        try:
            known = os.statvfs(path)
        except OSError:
            continue
        if known.f_blocks:
            size = known.f_frsize
            found[f"{name}.available"] = Reading(known.f_bavail * size, known.f_blocks * size)
        if known.f_files:
            found[f"{name}.inodesFree"] = Reading(known.f_favail, known.f_files)
    most, used = node_info.process_ids(root)
    if most:
        found["pid.available"] = Reading(most - used, most)
    return found


def memory_usage(cgroups: Cgroups, worker: PodWorker) -> Usage:
    """A pod's working set, whole and by container: what the kernel cannot simply drop."""
    directory = _pod_directory(cgroups, worker, "memory")
    containers = {}
    for one in worker.containers.values():
        for name in (one.id, f"cri-containerd-{one.id}.scope", f"crio-{one.id}.scope"):
            if (directory / name).is_dir():
                containers[one.name] = _working_set(directory / name)
    return Usage(_working_set(directory), containers)


def process_usage(cgroups: Cgroups, worker: PodWorker) -> Usage:
    """How many processes and threads a pod has."""
    return Usage(node_info.read_number(_pod_directory(cgroups, worker, "pids") / "pids.current"))


def _pod_directory(cgroups: Cgroups, worker: PodWorker, controller: str) -> Path:
    relative = cgroups.names.path(cgroups.names.pod(worker.pod))
    return cgroups.root / relative if cgroups.is_v2 else cgroups.root / controller / relative


def _working_set(directory: Path) -> int:
    used = node_info.read_number(directory / "memory.current") or node_info.read_number(
        directory / "memory.usage_in_bytes"
    )
    for line in node_info.read_text(directory / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            # version 1 lists a cgroup's own pages before those with its children's
            inactive = int(value)
            if name == "total_inactive_file" or directory.joinpath("memory.current").exists():
                return max(0, used - inactive)
    return used


class DiskUsage:
    """What pods have on local disk: writable layers, logs, emptyDirs.

    Attributes:
        containers: bytes by pod UID and container name.
        volumes: bytes by pod UID and volume name.
        totals: bytes by pod UID.
        inodes: files by pod UID.
    """

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, int]] = {}
        self.volumes: dict[str, dict[str, int]] = {}
        self.totals: dict[str, int] = {}
        self.inodes: dict[str, int] = {}

    def usage(self, uid: str, resource: str) -> Usage:
        """As the ranking wants it."""
        if resource == "inodes":
            return Usage(self.inodes.get(uid, 0))
        return Usage(self.totals.get(uid, 0), self.containers.get(uid, {}))


async def disk_usage(
    tools: Tools, workers: Iterable[PodWorker], *, layers: bool = True, local: bool = True
) -> DiskUsage:
    """Measures these pods; the walking is done in a thread, beside the loop.

    Args:
        tools: the kubelet's shared parts.
        workers: the pods'.
        layers: whether writable layers count, which are on the images' disk.
        local: whether logs and emptyDirs count.
    """
    found = DiskUsage()
    written: dict[str, int] = {}
    if layers:
        with contextlib.suppress(RuntimeFailure):
            written = {one.id: one.disk_bytes for one in await tools.runtime.container_stats()}
    for worker in workers:
        uid = worker.uid
        logs = tools.paths.log_directory(worker.pod)
        sizes, files = (
            await asyncio.to_thread(_walk_all, logs, _empty_dirs(worker)) if local else ({}, 0)
        )
        containers = {name: size for (kind, name), size in sizes.items() if kind == "logs"}
        for one in worker.containers.values():
            containers[one.name] = containers.get(one.name, 0) + written.get(one.id, 0)
        found.containers[uid] = containers
        found.volumes[uid] = {
            name: size for (kind, name), size in sizes.items() if kind == "volume"
        }
        found.totals[uid] = sum(containers.values()) + sum(found.volumes[uid].values())
        found.inodes[uid] = files
    return found


def has_storage_limits(pod: Pod) -> bool:
    """Whether its use of the disk must be measured at all."""
    if any(
        (one.get("emptyDir") or {}).get("sizeLimit") and one["emptyDir"].get("medium", "") == ""
        for one in pod["spec"].get("volumes") or []
    ):
        return True
    return any(
        "ephemeral-storage" in resources.listed(one, "limits")
        for one in lifecycle.every_container(pod)
    )


def _empty_dirs(worker: PodWorker) -> dict[str, Path]:
    """The pod's emptyDirs that lie on disk."""
    paths = worker.volumes or {}
    return {
        one["name"]: Path(paths[one["name"]].path)
        for one in worker.pod["spec"].get("volumes") or []
        if one["name"] in paths and "emptyDir" in one and not (one["emptyDir"] or {}).get("medium")
    }


def _walk_all(logs: Path, volumes: dict[str, Path]) -> tuple[dict[tuple[str, str], int], int]:
    sizes: dict[tuple[str, str], int] = {}
    files = 0
    try:
        names = [one.name for one in logs.iterdir() if one.is_dir()]
    except OSError:
        names = []
    for name in names:
        sizes["logs", name], count = measure(logs / name)
        files += count
    for name, path in volumes.items():
        sizes["volume", name], count = measure(path)
        files += count
    return sizes, files


def measure(path: Path) -> tuple[int, int]:
    """Bytes allocated and files below a directory on its own file system; links are not followed."""
    size = files = 0
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return 0, 0
    waiting = [str(path)]
    while waiting and files < MAX_ENTRIES:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    known = entry.stat(follow_symlinks=False)
                    if known.st_dev != device:
                        continue
                    files += 1
                    size += known.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return size, files
