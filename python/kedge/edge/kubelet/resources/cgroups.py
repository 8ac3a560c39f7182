# SPDX-License-Identifier: Apache-2.0
"""The node's tree of cgroups: ``kubepods``, a level per QoS class, and one cgroup per pod.

Named and filled as the kubelet does it. With the cgroupfs driver the files are written here, before
the sandbox is made; with systemd the slices come to be with the sandbox, and systemd is told their
limits afterwards. Version 1 (a hierarchy per controller), the hybrid of it and version 2 are told
apart by what is mounted. A limit whose controller the kernel lacks is named once and left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kedge.edge.kubelet.pod.status import qos_class
from kedge.edge.kubelet.resources import resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.resources.resources import Limits

ROOT = Path("/sys/fs/cgroup")
SYSTEMCTL_SECONDS = 10.0
AGENT_OOM_SCORE = -999
_VERSION_1 = ("cpu", "cpuacct", "memory", "pids", "hugetlb")
_VERSION_2 = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")

_log = logging.getLogger(__name__)


def weight(shares: int) -> int:
    """Version 2's ``cpu.weight`` for version 1's shares, as runc counts since 1.3: 1024 is 100."""
    if shares <= resources.MIN_SHARES:
        return 1
    if shares >= resources.MAX_SHARES:
        return 10_000
    bits = math.log2(shares)
    return math.ceil(10 ** ((bits * bits + 125 * bits) / 612 - 7 / 34))


def files(limits: Limits, *, is_v2: bool) -> Iterator[tuple[str, str, str]]:
    """What to write: controller, file, text; what is None is left as it is."""
    period = resources.CPU_PERIOD_MICROSECONDS
    if limits.cpu_shares is not None:
        yield (
            ("cpu", "cpu.weight", str(weight(limits.cpu_shares)))
            if is_v2
            else ("cpu", "cpu.shares", str(limits.cpu_shares))
        )
    if limits.cpu_quota is not None and is_v2:
        yield "cpu", "cpu.max", f"{limits.cpu_quota if limits.cpu_quota > 0 else 'max'} {period}"
    elif limits.cpu_quota is not None:
        yield "cpu", "cpu.cfs_period_us", str(period)
        yield "cpu", "cpu.cfs_quota_us", str(limits.cpu_quota if limits.cpu_quota > 0 else -1)
    if limits.memory_bytes is not None:
        name = "memory.max" if is_v2 else "memory.limit_in_bytes"
        endless = "max" if is_v2 else "-1"
        yield "memory", name, str(limits.memory_bytes) if limits.memory_bytes > 0 else endless
    if limits.pids is not None:
        yield "pids", "pids.max", str(limits.pids) if limits.pids > 0 else "max"
    for size, count in limits.huge_pages.items():
        name = f"hugetlb.{size}.max" if is_v2 else f"hugetlb.{size}.limit_in_bytes"
        yield "hugetlb", name, str(count)


def properties(limits: Limits, *, is_v2: bool) -> list[str]:
    """The same as settings of a systemd slice, but for huge pages, which systemd does not know."""
    found = []
    if limits.cpu_shares is not None:
        found.append(
            f"CPUWeight={weight(limits.cpu_shares)}" if is_v2 else f"CPUShares={limits.cpu_shares}"
        )
    if limits.cpu_quota is not None:
        share = -(-limits.cpu_quota * 100 // resources.CPU_PERIOD_MICROSECONDS)
        found.append(f"CPUQuota={share}%" if limits.cpu_quota > 0 else "CPUQuota=")
    if limits.memory_bytes is not None:
        value = str(limits.memory_bytes) if limits.memory_bytes > 0 else "infinity"
        found.append(f"MemoryMax={value}" if is_v2 else f"MemoryLimit={value}")
    if limits.pids is not None:
        found.append(f"TasksMax={limits.pids if limits.pids > 0 else 'infinity'}")
    return found


class Names(NamedTuple):
    """How cgroups are called.

    Attributes:
        systemd: whether they are systemd's slices.
        above: the cgroup that ``kubepods`` is in; empty at the top.
    """

    systemd: bool = False
    above: str = ""

    def of(self, *names: str) -> str:
        """The name that a runtime is told, from the levels below ``above``."""
        levels = [one for one in self.above.split("/") if one] + [*names]
        if self.systemd:
            return "-".join(one.replace("-", "_") for one in levels) + ".slice"
        return "/" + "/".join(levels)

    def pod(self, pod: Pod) -> str:
        """A pod's cgroup."""
        return self.of("kubepods", *_level(pod), f"pod{pod['metadata']['uid']}")

    def path(self, name: str) -> str:
        """Where a name is below a hierarchy's mount: a slice lies in the slices of its prefixes."""
        if not name.endswith(".slice"):
            return name.lstrip("/")
        parts = name.removesuffix(".slice").split("-")
        return "/".join("-".join(parts[: end + 1]) + ".slice" for end in range(len(parts)))


def _level(pod: Pod) -> tuple[str, ...]:
    level = qos_class(pod).lower()
    return () if level == "guaranteed" else (level,)


@dataclass(slots=True)
class Cgroups:
    """Makes, limits and removes the node's cgroups.

    Attributes:
        names: how they are called.
        pids: the most processes of one pod; 0 or less sets no limit.
        huge_page_sizes: of the machine, as the kernel writes them (2MB).
        root: where the hierarchies are mounted.
        complain: told what cannot be honoured, once each.
    """

    names: Names = field(default_factory=Names)
    pids: int = -1
    huge_page_sizes: tuple[str, ...] = ()
    root: Path = ROOT
    complain: Callable[[str], None] = _log.warning
    _burstable: dict[str, int] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _shares: int = 0

    @property
    def is_v2(self) -> bool:
        """Whether there is one hierarchy for all controllers; a hybrid counts as version 1."""
        return (self.root / "cgroup.controllers").exists()

    async def begin(self, limits: Limits) -> None:
        """Makes ``kubepods`` with what all pods together may use, and the levels of the classes."""
        top = self.names.of("kubepods")
        besteffort = self.names.of("kubepods", "besteffort")
        least = resources.Limits(cpu_shares=resources.MIN_SHARES)
        for name, wanted in ((top, limits), (besteffort, least)):
            self._make(name, wanted)
            await self._tell_systemd(name, wanted)
        self._make(self.names.of("kubepods", "burstable"), resources.Limits())
        self._share()

    def note(self, pod: Pod) -> None:
        """Counts a pod's request among those of its class."""
        if qos_class(pod) == "Burstable":
            self._burstable[pod["metadata"]["uid"]] = resources.pod_amount(pod, "requests", "cpu")
            self._share()

    def forget(self, uid: str) -> None:
        """The opposite."""
        if self._burstable.pop(uid, None) is not None:
            self._share()

    def limits(self, pod: Pod) -> Limits:
        """What a pod's cgroup has."""
        return resources.pod_limits(pod, qos_class(pod), self.huge_page_sizes, self.pids)

    def prepare(self, pod: Pod) -> None:
        """Makes the pod's cgroup with its limits, before its sandbox."""
        self._make(self.names.pod(pod), self.limits(pod))

    async def settle(self, pod: Pod) -> None:
        """Tells systemd the limits of the pod's slice, which its sandbox has made."""
        if self.names.systemd:
            await self._tell_systemd(self.names.pod(pod), self.limits(pod))
            name = self.names.pod(pod)
            self._write(name, resources.Limits(huge_pages=self.limits(pod).huge_pages))

    async def change(self, pod: Pod, limits: Limits) -> None:
        """Gives a running pod's cgroup other limits.

        Raises:
            OSError: the kernel does not take them, such as memory below what is in use.
        """
        name = self.names.pod(pod)
        if self.names.systemd:
            await self._tell_systemd(name, limits)
            return
        for controller, file, text in files(limits, is_v2=self.is_v2):
            directory = self._directory(controller, name)
            if directory is not None:
                (directory / file).write_text(text)

    def remove(self, uid: str) -> None:
        """Removes the pod's empty cgroup from every hierarchy; systemd removes its own slices."""
        self.forget(uid)
        if self.names.systemd:
            return
        mounts = [self.root, *(one for one in self.root.glob("*") if one.is_dir())]
        for path in [mount / one for mount in mounts for one in self._possible(uid)]:
            if path.is_dir():
                for child in path.glob("*/"):
                    with contextlib.suppress(OSError):
                        child.rmdir()
                with contextlib.suppress(OSError):
                    path.rmdir()

    def _possible(self, uid: str) -> list[str]:
        """Where the pod's cgroup may be: of an orphan nobody knows the class."""
        last = f"pod{uid}"
        levels: tuple[tuple[str, ...], ...] = ((), ("burstable",), ("besteffort",))
        names = [self.names.of("kubepods", *level, last) for level in levels]
        return [self.names.path(name) for name in names]

    def _share(self) -> None:
        """Gives the burstable pods together as much weight as they ask for."""
        shares = resources.shares(sum(self._burstable.values()))
        if shares != self._shares:
            self._shares = shares
            name = self.names.of("kubepods", "burstable")
            self._write(name, resources.Limits(cpu_shares=shares))

    def _make(self, name: str, limits: Limits) -> None:
        if self.names.systemd:
            return
        relative = self.names.path(name)
        try:
            if self.is_v2:
                self._make_unified(relative)
            else:
                for controller in _VERSION_1:
                    if (self.root / controller).is_dir():
                        (self.root / controller / relative).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._say(f"cgroup {name} cannot be made: {error.strerror}")
            return
        self._write(name, limits)

    def _make_unified(self, relative: str) -> None:
        """Every level hands its controllers down, as the kernel wants it."""
        path = self.root
        for level in relative.split("/"):
            there = (path / "cgroup.controllers").read_text().split()
            for one in _VERSION_2:
                if one in there:
                    with contextlib.suppress(OSError):
                        (path / "cgroup.subtree_control").write_text(f"+{one}")
            path /= level
            path.mkdir(exist_ok=True)

    def _write(self, name: str, limits: Limits) -> None:
        for controller, file, text in files(limits, is_v2=self.is_v2):
            directory = self._directory(controller, name)
            if directory is None:
                if text not in ("0", "max", "-1"):
                    self._say(f"limits of {controller} are not enforced: no such cgroup controller")
                continue
            try:
                (directory / file).write_text(text)
            except FileNotFoundError:
                if text not in ("0", "max", "-1"):
                    self._say(f"{file} is not enforced: the kernel has no such file")
            except OSError as error:
                self._say(f"{name}: {file} cannot be set to {text}: {error.strerror}")

    def _directory(self, controller: str, name: str) -> Path | None:
        relative = self.names.path(name)
        path = self.root / relative if self.is_v2 else self.root / controller / relative
        return path if path.is_dir() else None

    async def _tell_systemd(self, name: str, limits: Limits) -> None:
        wanted = properties(limits, is_v2=self.is_v2)
        if not self.names.systemd or not wanted:
            return
        try:
            process = await asyncio.create_subprocess_exec(
                "systemctl", "set-property", "--runtime", name, *wanted,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(SYSTEMCTL_SECONDS):
                _, words = await process.communicate()
        except (OSError, TimeoutError) as error:
            self._say(f"{name}: systemd cannot be told its limits: {error!r}")
            return
        if process.returncode != 0:
            text = words.decode(errors="replace").strip()[:300]
            self._say(f"{name}: systemd refuses {' '.join(wanted)}: {text}")

    def _say(self, text: str) -> None:
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            self.complain(text)


def protect_agent(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Makes the kernel take the agent last when memory runs out, where it may say so."""
    try:
        score.write_text(str(AGENT_OOM_SCORE))
    except OSError as error:
        _log.warning("the agent's own OOM score cannot be lowered: %s", error.strerror)


def kernel_page_size(name: str) -> str:
    """``2MB`` for ``2Mi``, as cgroups and the CRI call a size of huge pages."""
    return name.removesuffix("i") + "B"


def page_sizes(capacity: Mapping[str, str]) -> tuple[str, ...]:
    """The sizes of huge pages of a node, as the kernel calls them."""
    return tuple(
        kernel_page_size(name.removeprefix("hugepages-"))
        for name in capacity
        if name.startswith("hugepages-")
    )
