# SPDX-License-Identifier: Apache-2.0
"""Gives a node without a pod network one of its own, and takes it away when the node leaves.

The file is written where the runtime looks for networks, whole or not at all, and only if no other
network is there; the runtime notices by itself. A plugin that is missing, a network of the node that
the pods' one would hide: each is named, in the node's Ready condition and an Event, and looked at
again with every look at the node.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from kedge.edge.network import conflist
from kedge.errors import RuntimeFailure
from kedge.files import read_text, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.runtime import ContainerRuntime

CONF_DIR = "/etc/cni/net.d"
BIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
ROUTES = Path("/proc/net/route")
INTERFACES = Path("/sys/class/net")
MAX_FILE_BYTES = 1 << 20
PROBE_SECONDS = 10.0
JOURNAL = "written"
"""Beside the addresses in use: where the network was written, noted before it is."""
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SUFFIXES = (".conf", ".conflist", ".json")
_BANDWIDTH_PROBES = (
    "tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 25ms",
    "ip link add probe type ifb",
)
"""What the bandwidth plugin needs of the kernel, tried in a network namespace of its own."""

_log = logging.getLogger(__name__)


class Bridge:
    """The node's own pod network.

    Args:
        runtime: asked where it looks for networks and plugins.
        recorder: takes Events about the node.
        node: its name.
        cidrs: the pods' networks.
        interface: what the bridge is called.
        state: the directory of addresses in use.
        conf_dir: where to write; empty asks the runtime.
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        recorder: Recorder,
        *,
        node: str,
        cidrs: tuple[str, ...],
        interface: str,
        state: Path,
        conf_dir: str = "",
    ) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._node = node
        self._cidrs = cidrs
        self._interface = interface
        self._state = state
        self._conf_dir = conf_dir
        self._said: set[str] = set()
        self._is_written = False

    async def ensure(self, *, is_ready: bool = True) -> str:
        """Sees to it that there is a network; what stands in the way, or nothing.

        Args:
            is_ready: whether the runtime has a network; one that was there may have been taken away.
        """
        if self._is_written and is_ready:
            return ""
        try:
            found = await self._runtime.network()
        except RuntimeFailure as error:
            return f"network: the container runtime does not say where its networks are: {error}"
        conf_dir = Path(self._conf_dir or found.conf_dir or CONF_DIR)
        problem = self._write(conf_dir, found.bin_dirs or BIN_DIRS)
        self._is_written = not problem
        if problem:
            self._say("NetworkNotReady", problem)
        return problem

    def _write(self, conf_dir: Path, bin_dirs: tuple[str, ...]) -> str:
        path = conf_dir / conflist.FILE
        try:
            other = others(conf_dir)
            if other:
                self._say("NetworkKept", f"network: bridge is not made: {conf_dir} has {other}")
                return ""
            present = plugins(bin_dirs)
            missing = [one for one in conflist.NEEDED if one not in present]
            if missing:
                return (
                    f"network: bridge needs the CNI plugins {', '.join(missing)}, which are not in "
                    f"{', '.join(bin_dirs)}: install them (containernetworking-plugins)"
                )
            hidden = hidden_route(self._cidrs, self._interface)
            if hidden:
                return f"network: podCidr overlaps a network of the node: {hidden}; choose another"
            text = conflist.render(
                self._cidrs,
                interface=self._interface,
                state=str(self._state),
                node=self._node,
                extras=self._extras(present),
            )
            if path.exists() and path.read_text() == text:
                return ""
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._state / JOURNAL, str(path), 0o644)
            conf_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_whole(path, text, 0o644)  # the runtime does not read the name that it has first
        except OSError as error:
            return f"network: {error.filename or path}: {error.strerror}"
        self._recorder.node("NetworkMade", f"network: bridge is written to {path}")
        _log.info("the node has a pod network of its own path=%s", path)
        return ""

    def _extras(self, present: frozenset[str]) -> list[str]:
        found = []
        for name, what in (("portmap", "hostPort"), ("bandwidth", "bandwidth annotations")):
            if name not in present:
                text = f"{what} will not be honoured: the CNI plugin {name} is not there"
            elif name == "bandwidth" and not can_limit():
                text = f"{what} will not be honoured: the kernel has no tbf or ifb"
            else:
                found.append(name)
                continue
            self._say("NetworkPluginMissing", text)
        return found

    def _say(self, reason: str, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _log.warning("%s", text)
            self._recorder.node(reason, text, warning=True)


def others(conf_dir: Path) -> str:
    """The first network there that is not kedge's; empty without one."""
    try:
        names = sorted(one.name for one in conf_dir.iterdir() if one.suffix in _SUFFIXES)
    except FileNotFoundError:
        return ""
    for name in names:
        if name != conflist.FILE or not conflist.is_ours(_read(conf_dir / name)):
            return name
    return ""


def plugins(bin_dirs: Iterable[str]) -> frozenset[str]:
    """The CNI plugins in these directories."""
    found = set()
    for directory in bin_dirs:
        try:
            found |= {one.name for one in Path(directory).iterdir() if os.access(one, os.X_OK)}
        except OSError:
            continue
    return frozenset(found)


def hidden_route(cidrs: Iterable[str], interface: str, routes: Path = ROUTES) -> str:
    """A network of the node, on another interface, that the pods' one would hide; empty without one."""
    for line in _read(routes).splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[0] == interface or words[7] == "00000000":
            continue
        address = socket.inet_ntoa(bytes.fromhex(words[1])[::-1])
        network = f"{address}/{int(words[7], 16).bit_count()}"
        if any(conflist.overlap(cidr, network) for cidr in cidrs):
            return f"{network} on {words[0]}"
    return ""


def can_limit() -> bool:
    """Whether the kernel has what bandwidths are made with, or nobody can tell."""
    for command in _BANDWIDTH_PROBES:
        try:
            done = _run("unshare", "--net", *command.split())
        except (OSError, subprocess.TimeoutExpired):
            return True
        if done.returncode not in (0, 127):
            return False
    return True


def written(state: Path) -> Path | None:
    """The directory that an agent has written its network into, if one is there still.

    Args:
        state: the directory of addresses in use, ``network`` in the agent's.
    """
    text = _read(state / JOURNAL)
    if not text or not conflist.is_ours(_read(Path(text))):
        return None
    return Path(text).parent


def remove(conf_dir: Path, interfaces: Path = INTERFACES) -> list[str]:
    """Takes away the network that kedge wrote, if it did, with its bridge; what was removed.

    For a node that leaves: its sandboxes must be gone. A network of somebody else stays.

    Raises:
        OSError: the file or the bridge cannot be removed.
    """
    path = conf_dir / conflist.FILE
    text = _read(path)
    if not conflist.is_ours(text):
        return []
    removed = [str(path)]
    interface = conflist.interface_of(text)
    if interface and (interfaces / interface / "bridge").is_dir():
        done = _run("ip", "link", "delete", interface, "type", "bridge")
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()[:200]
            raise OSError(f"bridge {interface} cannot be deleted: {words}")
        removed.append(interface)
    path.unlink()
    return removed


def _run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - words of our own, no shell
        command, env={"PATH": _PATH}, capture_output=True, check=False, timeout=PROBE_SECONDS
    )


def _read(path: Path) -> str:
    return read_text(path, MAX_FILE_BYTES)
