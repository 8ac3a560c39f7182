# SPDX-License-Identifier: Apache-2.0
"""What a container runtime answers: CRI's facts in the kubelet's words. Times are seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Mapping


class CallFailed(RuntimeFailure):
    """A call to the runtime failed.

    Args:
        code: the gRPC code: 4 no answer in time, 5 not found, 14 the runtime is away, ...
        message: the runtime's own words.
    """

    reason: ClassVar[str] = "RuntimeCallFailed"

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """Name and versions of the runtime."""

    name: str
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class RuntimeCondition:
    """One condition of the runtime, such as ``RuntimeReady`` and ``NetworkReady``."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


class Handler(NamedTuple):
    """What the runtime can do with one of its handlers."""

    recursive_read_only: bool = False
    user_namespaces: bool = False


class Abilities(NamedTuple):
    """What a runtime can do, as far as it tells.

    Attributes:
        handlers: by name; the default one has none.
        strict_groups: whether it honours ``supplementalGroupsPolicy``.
        selinux: whether it labels containers; None when it does not tell.
    """

    handlers: Mapping[str, Handler] = MappingProxyType({})
    strict_groups: bool = False
    selinux: bool | None = None


class NetworkInfo(NamedTuple):
    """What a runtime says of its CNI network; what it does not tell is empty or None.

    Attributes:
        name: of the network that pods get; empty without one.
        conf_dir: where it looks for networks.
        bin_dirs: where it looks for plugins.
        capabilities: what the network's plugins take, such as ``portMappings``.
    """

    name: str = ""
    conf_dir: str = ""
    bin_dirs: tuple[str, ...] = ()
    capabilities: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A pod sandbox; ``ips`` only in its status. Times are seconds since the epoch."""

    id: str
    attempt: int
    ready: bool
    created_at: float
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """A row of the list of containers; ``state`` is created, running, exited or unknown."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: str
    image: str = ""
    image_ref: str = ""
    created_at: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container's state in full; times are 0 before they happen."""

    id: str
    state: str
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image_ref: str = ""
    log_path: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the node."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size_bytes: int = 0
    runs_as_root: bool = False
    is_pinned: bool = False
    user: str = ""
    """As the image has it: a number, a name, or empty for root."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command in a container ended."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """What a running container uses; ``cpu_seconds`` since it started."""

    id: str
    time: float
    cpu_seconds: float
    memory_bytes: int
    disk_bytes: int
    disk_inodes: int = 0


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """A file system of images."""

    mountpoint: str
    used_bytes: int
