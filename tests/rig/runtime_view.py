# SPDX-License-Identifier: Apache-2.0
"""What of a node's pods is in the runtime and on the machine: sandboxes, containers, mounts, cgroups, files."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from kedge.edge.kubelet import labels
from kedge.edge.runtime import ContainerInfo, SandboxInfo
from kedge.edge.runtime.cri import CriRuntime
from tests.rig.containerd import Containerd, _env
from tests.rig.mounts import mounts_below


@dataclass
class View:
    """All sandboxes with a pod UID of a set, and their containers."""

    sandboxes: list[SandboxInfo] = field(default_factory=list)
    containers: list[ContainerInfo] = field(default_factory=list)

    def states(self, uid: str) -> list[tuple[str, int, str]]:
        """Name, attempt and state of each container of a pod, in their order."""
        mine = {one.id for one in self.sandboxes if one.labels[labels.POD_UID] == uid}
        return sorted(
            (one.labels[labels.CONTAINER_NAME], one.attempt, one.state)
            for one in self.containers
            if one.sandbox_id in mine
        )

    def count(self, uid: str, name: str, ids: set[str]) -> int:
        """How many of these containers are a pod's of that name."""
        mine = {one.id for one in self.sandboxes if one.labels[labels.POD_UID] == uid}
        return sum(
            one.sandbox_id in mine and one.labels[labels.CONTAINER_NAME] == name and one.id in ids
            for one in self.containers
        )

    def ready(self, uid: str) -> list[bool]:
        """Whether each sandbox of a pod is ready."""
        return [one.ready for one in self.sandboxes if one.labels[labels.POD_UID] == uid]


async def never_started(runtime: CriRuntime, view: View) -> set[str]:
    """Containers whose start was cancelled: an agent died while it waited for it. Few of them ran."""
    found = set()
    for one in view.containers:
        status = await runtime.container_status(one.id) if one.state == "exited" else None
        if status is not None and status.reason == "StartError":
            found.add(one.id)
    return found


async def look(runtime: CriRuntime, uids: set[str]) -> View:
    """What the runtime has of these pods, whoever made it."""
    sandboxes = [
        one for one in await runtime.list_sandboxes() if one.labels.get(labels.POD_UID) in uids
    ]
    found = await runtime.list_containers()
    return View(sandboxes, [one for one in found if one.labels.get(labels.POD_UID) in uids])


def left_on_machine(directory: Path, uids: set[str]) -> list[str]:
    """Mounts, cgroups and files below a node's directory that are of these pods."""
    found = [f"mount {one}" for one in mounts_below(directory) if any(uid in one for uid in uids)]
    for root, names, files in os.walk("/sys/fs/cgroup"):
        if "kubepods" in root:
            found += [f"cgroup {root}/{one}" for one in names if one[3:] in uids]
        del files
    for root, names, files in os.walk(directory):
        found += [f"file {root}/{one}" for one in names + files if any(uid in one for uid in uids)]
    return found


def network_ends(containerd: Containerd) -> list[str]:
    """The node's ends of pods' network devices: one for each network namespace that was not taken down."""
    command = ["ip", "-o", "link", "show", "master", containerd.bridge]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_env())
    return [line.split(": ")[1] for line in done.stdout.splitlines()]


def addresses_taken(containerd: Containerd) -> list[str]:
    """Pod addresses that the network's allocator holds."""
    return [one.name for one in (containerd.directory / "cni-data").glob("*/[0-9]*")]
