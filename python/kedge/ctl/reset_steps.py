# SPDX-License-Identifier: Apache-2.0
"""The steps of ``kedge reset``: each finds what is there of its kind and removes that; twice is once.

A plan is made anew each time from what is on the machine, so a reset that was interrupted anywhere
goes on with what is left. Nothing is entered or removed beyond a mount point, and links are not followed.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.ctl.failure import Failure
from kedge.ctl.runtime import ask
from kedge.edge.config import MARKER
from kedge.edge.kubelet import labels, remains
from kedge.edge.kubelet.resources.cgroups import Cgroups, Names
from kedge.edge.kubelet.tools import Paths
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.trees import SystemMounter, remove_tree, unmount_below
from kedge.edge.metaserver import address
from kedge.edge.network import bridge
from kedge.errors import KedgeError
from kedge.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path

    from kedge.edge.runtime import SandboxInfo
    from kedge.edge.runtime.cri import CriRuntime

GRACE_SECONDS = 30
"""The longest that a pod gets to end, whatever it asks for."""
MOUNTED = ("pods", "memory", "plugins")
"""Directories of the node that pods' volumes are mounted below."""
STATE = (
    "pods", "memory", "imported-images", "plugins", "plugins_registry", "device-plugins", "pod-resources",
    "metaserver", "store", "store.complete", "store.complete.new", "status.json", "status.json.new", "agent.sock", "agent.sock.new",
)  # fmt: skip
"""What an agent keeps in its directory, but for its identity."""
NETWORK = "network"
"""What belongs to a pod network of the node's own: it goes with it."""
IDENTITY = ("pki", "node.seal", "node.seal.new", "edge.yaml", "edge.yaml.new")
"""What makes the directory a node's: it goes last."""


@dataclass(frozen=True, slots=True)
class Node:
    """The node that is to go.

    Attributes:
        directory: where it was joined, with its settings.
        name: its name; empty when a join was not finished.
        data: where it keeps everything.
        logs: the directory of all pods' logs, which others may use too.
        endpoint: its runtime's.
        volumes: where local volumes keep their data, which is people's and not the node's.
        cgroup_root: the cgroup that its pods' are below.
        cloud: where its hub is, ``HOST:PORT``; empty for a node without one.
        left: its Node was deleted already, by an earlier run.
    """

    directory: Path
    name: str
    data: Path
    logs: Path
    endpoint: str
    volumes: Path
    cgroup_root: str = ""
    cloud: str = ""
    left: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        text: said when it is done.
        act: does it, and gives what is to be said at the end; raises ``Failure`` when it cannot.
        details: what is concerned, one a line.
    """

    text: str
    act: Callable[[], str | None]
    details: tuple[str, ...] = ()


def plan(
    node: Node, *, runtime: bool, volumes: bool = False, keep_node: bool = False
) -> list[Step]:
    """What is to be done, in order.

    Args:
        node: whose.
        runtime: whether to end its pods there.
        volumes: whether the data of local volumes goes, too.
        keep_node: whether its Node stays in the cluster.

    Raises:
        Failure: the runtime does not answer.
    """
    sandboxes = in_runtime(node, _ours) if runtime and node.name else []
    steps = []
    if sandboxes:
        steps.append(
            Step(
                f"ending {len(sandboxes)} pods of node {node.name} in the runtime",
                lambda: _end_pods(node),
                tuple(
                    f"{one.labels.get(labels.POD_NAMESPACE)}/{one.labels.get(labels.POD_NAME)}"
                    for one in sandboxes
                ),
            )
        )
    mounts = [one for name in MOUNTED for one in SystemMounter().below(node.data / name)]
    if mounts:
        steps.append(
            Step(f"unmounting {len(mounts)} volumes", lambda: _unmount(node), tuple(mounts))
        )
    uids = {one.labels[labels.POD_UID] for one in sandboxes} | _known_uids(node)
    if uids:
        text = f"removing cgroups, logs and directories of {len(uids)} pods"
        steps.append(Step(text, lambda: _remove_pods(node, uids)))
    network = bridge.written(node.data / NETWORK)
    if network is not None and runtime:
        text = f"removing the network that the node made in {network}"
        steps.append(Step(text, lambda: _remove_network(network)))
    elif network is not None:
        text = f"leaving the network that the node made in {network}, which its pods use"
        steps.append(Step(text, lambda: None))
    data = _data(node.volumes)
    if data and volumes:
        text = f"removing the data of {len(data)} local volumes in {node.volumes}"
        steps.append(Step(text, lambda: _remove([node.volumes]), tuple(map(str, data))))
    made = () if network is not None and not runtime else (NETWORK,)
    record = node.data / "metaserver" / address.RECORD
    if given := address.noted(record):
        steps.append(
            Step(f"taking back the address {given} of lo", lambda: _give_back(record), (given,))
        )
    state = _present(node.data, (*STATE, *made, *_set_aside(node.data)))
    if state:
        text = f"removing what the agent kept in {node.data}"
        steps.append(Step(text, lambda: _remove_state(state), tuple(map(str, state))))
    identity = [*_present(node.data, IDENTITY), *_present(node.directory, ("edge.yaml",))]
    identity = list(dict.fromkeys(identity))
    steps += _leaving(node, keep_node=keep_node)
    if identity:
        text = "removing the node's key, certificate and settings"
        steps.append(Step(text, lambda: _remove_identity(identity), tuple(map(str, identity))))
    kept = data if not volumes else []
    if kept:
        text = f"leaving the data of {len(kept)} local volumes in {node.volumes} (--delete-volumes removes it)"
        steps.append(Step(text, lambda: None, tuple(map(str, kept))))
    elif node.volumes.is_dir():
        steps.append(Step(f"removing {node.volumes}", lambda: _remove([node.volumes])))
    known = {*state, *identity, node.volumes, *_present(node.directory, (MARKER,))}
    steps.append(
        _last(node, known, is_empty=not kept or not node.volumes.is_relative_to(node.data))
    )
    return steps


def _data(volumes: Path) -> list[Path]:
    """What local volumes there are."""
    return sorted(volumes.iterdir()) if volumes.is_dir() else []


def _last(node: Node, known: set[Path], *, is_empty: bool) -> Step:
    """The marker, and the directory if nothing else is in it."""
    foreign = [
        str(one)
        for one in sorted(node.data.iterdir() if node.data.is_dir() else ())
        if one not in known
    ]

    def act() -> None:
        (node.directory / MARKER).unlink(missing_ok=True)
        for directory in {node.data, node.directory}:
            if is_empty and not foreign and directory.is_dir() and not os.path.ismount(directory):
                directory.rmdir()

    if foreign:
        return Step(f"leaving {len(foreign)} files that are not kedge's: {' '.join(foreign)}", act)
    return Step(f"removing {node.data}" if is_empty else "removing the mark of this reset", act)


# the runtime


def in_runtime(
    node: Node, work: Callable[[CriRuntime, str], Coroutine[Any, Any, list[SandboxInfo]]]
) -> list[SandboxInfo]:
    """Does something with the runtime.

    Raises:
        Failure: it does not answer, or refused.
    """
    try:
        return ask(node.endpoint, lambda cri: work(cri, node.name))
    except (KedgeError, TimeoutError, OSError) as error:
        what = (
            f"the container runtime at {node.endpoint} did not do it: {str(error) or 'no answer'}"
        )
        hint = "start it, or leave its pods as they are: --without-runtime"
        raise Failure("NoRuntime", what, hint) from error


async def _ours(cri: CriRuntime, name: str) -> list[SandboxInfo]:
    """The sandboxes that the node made; those of others are nobody's business here."""
    return [
        one
        for one in await cri.list_sandboxes()
        if one.labels.get(labels.MANAGED_BY) == name and labels.POD_UID in one.labels
    ]


async def _end(cri: CriRuntime, name: str) -> list[SandboxInfo]:
    """Ends all of them, each with its time to do so."""
    found = await _ours(cri, name)
    containers = await cri.list_containers()
    limit = asyncio.Semaphore(16)

    async def end(one: SandboxInfo) -> None:
        grace = one.annotations.get(labels.GRACE_SECONDS, "")
        seconds = min(GRACE_SECONDS, int(grace)) if grace.isdecimal() else GRACE_SECONDS
        async with limit:
            inside = [
                row for row in containers if row.sandbox_id == one.id and row.state == "running"
            ]
            await asyncio.gather(*(cri.stop_container(row.id, seconds) for row in inside))
            await cri.stop_sandbox(one.id)
            await cri.remove_sandbox(one.id)
        if __debug__:
            faults.point("reset.pod.ended")

    async with asyncio.TaskGroup() as group:
        for one in found:
            group.create_task(end(one))
    return found


def _end_pods(node: Node) -> None:
    in_runtime(node, _end)


# the machine


def _known_uids(node: Node) -> set[str]:
    """Pods that have a directory here."""
    pods = node.data / "pods"
    return {one.name for one in pods.iterdir()} if pods.is_dir() else set()


def _unmount(node: Node) -> None:
    for name in MOUNTED:
        try:
            unmount_below(SystemMounter(), node.data / name)
        except VolumeError as error:
            hint = f"see who uses it (fuser -vm {node.data / name}), then try again"
            raise Failure("Mounted", str(error), hint) from error
    if __debug__:
        faults.point("reset.mounts.removed")


def _remove_pods(node: Node, uids: Iterable[str]) -> None:
    cgroups = Cgroups(Names(above=node.cgroup_root))
    for uid in uids:
        remains.remove(Paths(node.data / "pods", node.logs), cgroups, uid)
    if __debug__:
        faults.point("reset.remains.removed")


def _set_aside(data: Path) -> list[str]:
    """Stores that were damaged and put aside."""
    return [one.name for one in data.glob("store.damaged-*")] if data.is_dir() else []


def _present(directory: Path, names: Iterable[str]) -> list[Path]:
    return [directory / name for name in names if os.path.lexists(directory / name)]


def _remove_network(conf_dir: Path) -> None:
    try:
        bridge.remove(conf_dir)
    except OSError as error:
        what = f"the network in {conf_dir} cannot be removed: {error}"
        raise Failure("NotRemoved", what, "see who uses it, then try again") from error


def _give_back(record: Path) -> None:
    try:
        address.give_back(record)
    except OSError as error:
        what = f"the address in {record} cannot be removed: {error}"
        raise Failure("AddressStays", what, "run it as root") from error


def _remove_state(paths: list[Path]) -> None:
    _remove(paths)
    if __debug__:
        faults.point("reset.state.removed")


def _leaving(node: Node, *, keep_node: bool) -> list[Step]:
    """The node's last word to its cluster, if it can have one."""
    has_certificate = (node.data / "pki" / "node.crt").exists()
    if keep_node or node.left or not (node.name and node.cloud and has_certificate):
        return []
    text = f"asking the hub at {node.cloud} to delete Node {node.name}"
    return [Step(text, lambda: _leave(node))]


def mark(node: Node) -> None:
    """Says, until all is done, whose reset was begun."""
    content = {
        "node": node.name,
        "data": str(node.data),
        "logs": str(node.logs),
        "runtime": node.endpoint,
        "volumes": str(node.volumes),
        "cgroupRoot": node.cgroup_root,
        "cloud": node.cloud,
        "left": node.left,
    }
    write_whole(node.directory / MARKER, json.dumps(content).encode() + b"\n")


def _leave(node: Node) -> str:
    # Nobody else needs what speaks HTTPS.
    from kedge.ctl import leave  # noqa: PLC0415

    why = leave.ask(node.cloud, node.data / "pki")
    if __debug__:
        faults.point("reset.node.left")
    if why:
        return f"the cluster did not delete its Node: {why}\n{rest(node)}"
    gone = replace(node, left=True)
    mark(gone)
    return rest(gone)


def rest(node: Node) -> str:
    """What is to be said of the Node in the cluster."""
    if node.left:
        return f"in the cluster, Node {node.name} is deleted"
    return f"in the cluster it goes on to exist until: kubectl delete node {node.name}"


def _remove_identity(paths: list[Path]) -> None:
    _remove(paths)
    if __debug__:
        faults.point("reset.identity.removed")


def _remove(paths: list[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            what = f"{error.filename or path} cannot be removed: {error.strerror}"
            raise Failure("NotRemoved", what, "see who uses it, then try again") from error
