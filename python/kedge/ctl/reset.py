# SPDX-License-Identifier: Apache-2.0
"""``kedge reset``: undoes ``kedge join`` on this machine, and nothing else.

What the node made goes in the order of its dependence: its pods in the runtime, their mounts, cgroups and
logs, what it kept of the cluster, and its identity last. A marker, written first and removed last, says whose
reset was begun: an interrupted one is gone on with by the same command, and no agent starts meanwhile.
Only names that kedge gives are removed from the directory; what else is there stays, and is named. A directory
of a cluster or cloud is refused. What each step does is in ``reset_steps``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge import config, faults
from kedge.ctl import reset_steps, status
from kedge.ctl.failure import Failure
from kedge.ctl.reset_steps import Node
from kedge.edge.config import MARKER, EdgeConfig
from kedge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 30.0
CLOUD_NAMES = ("cluster", "cloud", "kubeconfig")
"""What ``kedge up`` or a role of the cloud keeps in its directory."""
VOLUMES = "local-volumes"
CLUSTER_FILES = ("kubeconfig", "cloud.kubeconfig", "mirror")
"""What is in the directory of ``kedge.cluster`` or ``kedge.cloud`` itself."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``kedge reset`` was asked for; the flags of the command."""

    directory: Path
    yes: bool = False
    dry_run: bool = False
    stop_agent: bool = False
    without_runtime: bool = False
    delete_volumes: bool = False
    keep_node: bool = False


def run(options: Options) -> None:
    """Resets the node in a directory; says what it does.

    Raises:
        Failure: it is no node's directory, its agent runs, nobody agreed, or a step did not succeed.
    """
    directory = options.directory.absolute()
    refuse_cloud(directory)
    node = read(directory)
    if os.geteuid() != 0:
        text = "only root can end pods and remove their mounts"
        raise Failure("NotRoot", text, "run it as root")
    what = {
        "runtime": not options.without_runtime,
        "volumes": options.delete_volumes,
        "keep_node": options.keep_node,
    }
    steps = reset_steps.plan(node, **what)
    if options.dry_run:
        print(f"kedge reset would remove node {node.name or '(unnamed)'} from this machine:")
        for line in _lines(steps):
            print(f"  {line}")
        return
    _agree(node, steps, yes=options.yes)
    with _Alone(node, stop=options.stop_agent):
        reset_steps.mark(node)
        if __debug__:
            faults.point("reset.marked")
        said = []
        for step in reset_steps.plan(node, **what):
            print(step.text, flush=True)
            said.append(step.act())
    print(f"node {node.name or '(unnamed)'} is removed from this machine")
    if node.name:
        print("\n".join(filter(None, said)) or reset_steps.rest(node))


def refuse_cloud(directory: Path) -> None:
    """Refuses a directory that is not a node's alone.

    Raises:
        Failure: a cluster or cloud is kept there, or ``kedge up`` runs and would join the node again.
    """
    for name in CLOUD_NAMES:
        if (directory / name).exists():
            what = f"{directory} holds a cluster ({name}); kedge reset only removes a node"
            hint = (
                f"its own node is in {directory / 'edge'}" if (directory / "edge").exists() else ""
            )
            raise Failure("IsCloud", what, hint or "give the --dir of kedge join")
    for name in CLUSTER_FILES:
        if (directory / name).exists():
            what = f"{directory} is the directory of a cluster or cloud ({name})"
            raise Failure("IsCloud", what, "give the --dir of kedge join")
    lock = directory.parent / "lock"
    if (directory.parent / "cluster").exists() and lock.exists() and not _is_free(lock):
        what = f"{directory} is the local node of the kedge up that runs in {directory.parent}"
        raise Failure("CloudRuns", what, "stop it first, and start it again with --no-edge")


def read(directory: Path) -> Node:
    """Whose node it is, from the settings, or from the marker of a reset that was begun.

    Raises:
        Failure: there is no node, or its settings cannot be read.
    """
    marker = directory / MARKER
    if marker.exists():
        try:
            found: dict[str, Any] = json.loads(marker.read_text())
            return Node(
                directory=directory,
                name=str(found["node"]),
                data=Path(found["data"]),
                logs=Path(found["logs"]),
                endpoint=str(found["runtime"]),
                volumes=Path(found["volumes"]),
                cgroup_root=str(found.get("cgroupRoot", "")),
                cloud=str(found.get("cloud", "")),
                left=found.get("left") is True,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"{marker}: what an earlier reset left cannot be read: {error}"
            raise Failure("Unreadable", what, f"remove {marker}, then try again") from error
    path = directory / "edge.yaml"
    if path.exists():
        try:
            settings = config.load(EdgeConfig, path, {})
        except ConfigError as error:
            raise Failure("Unreadable", str(error), f"correct {path}, then try again") from error
        return Node(
            directory=directory,
            name=settings.node_name or os.uname().nodename.lower(),
            data=settings.data_dir.absolute(),
            logs=settings.logs_dir.absolute(),
            endpoint=settings.runtime_endpoint,
            volumes=Path(settings.local_volumes_dir or settings.data_dir.absolute() / VOLUMES),
            cgroup_root=settings.cgroup_root,
            cloud=settings.cloud,
        )
    if (directory / "pki").is_dir() and (directory / "node.seal").exists():
        return Node(directory, "", directory, directory / "no-logs", "", directory / VOLUMES)
    hint = "give the --dir of kedge join (kedge up: DIR/edge)"
    raise Failure("NoNode", f"no node in {directory}", hint)


def _lines(steps: list[reset_steps.Step]) -> Iterator[str]:
    for step in steps:
        yield step.text
        for line in step.details:
            yield f"  {line}"


def _agree(node: Node, steps: list[reset_steps.Step], *, yes: bool) -> None:
    """Asks, unless that was answered already.

    Raises:
        Failure: nobody agreed.
    """
    if yes or (node.directory / MARKER).exists():
        return
    print(f"This removes node {node.name or '(unnamed)'} from this machine:")
    for line in _lines(steps):
        print(f"  {line}")
    if not sys.stdin.isatty():
        what = "nobody is there to agree: standard input is no terminal"
        raise Failure("NotConfirmed", what, "give --yes")
    if input(f"Remove node {node.name or '(unnamed)'}? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise Failure("NotConfirmed", "nothing was removed", "answer y, or give --yes")


class _Alone:
    """Holds the lock of the node's store, so that no agent runs; tells one that does to stop if asked to."""

    def __init__(self, node: Node, *, stop: bool) -> None:
        self._node = node
        self._stop = stop
        self._held = -1

    def __enter__(self) -> None:
        path = self._node.data / "store" / "kedge.lock"
        if not path.exists():
            return
        self._held = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if _try_lock(self._held):
            return
        pid = self._agent()
        who = f"the agent of node {self._node.name} runs" + (f" (process {pid})" if pid else "")
        if not self._stop or not pid:
            os.close(self._held)
            raise Failure("AgentRunning", who, "stop it first, or give --stop-agent")
        print(f"stopping the agent (process {pid})", flush=True)
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while not _try_lock(self._held):
            if time.monotonic() > until:
                os.close(self._held)
                what = f"{who} and did not stop within {STOP_SECONDS:g} s"
                raise Failure("AgentRunning", what, "stop what starts it again, then try again")
            time.sleep(0.05)

    def _agent(self) -> int:
        """The process id of the agent, if the process that wrote the status is one still."""
        try:
            found = status.read(self._node.data)
        except Failure:
            return 0
        return int(found["agent"]["pid"]) if status.is_running(found) else 0

    def __exit__(self, *_: object) -> None:
        if self._held >= 0:
            os.close(self._held)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)
