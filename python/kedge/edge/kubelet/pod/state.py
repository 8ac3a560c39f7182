# SPDX-License-Identifier: Apache-2.0
"""What is known of one pod on this node: the nouns that ``plan`` and ``status`` decide over.

Facts come from three places: the container runtime (sandboxes, containers), the agent's own memory
(back-offs, probe results, why the last attempt failed) and the last status reported, which is how
restart counts and finished containers outlive a runtime that lost everything. Times are seconds
since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Pod = dict[str, Any]


class ContainerState(StrEnum):
    """The runtime's word for where a container is."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod sandbox in the runtime."""

    id: str
    attempt: int
    ready: bool
    created_at: float
    ips: tuple[str, ...] = ()
    name: str = ""
    namespace: str = ""
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A container in the runtime, or the memory of one that the runtime lost.

    ``sandbox_id`` is empty for a lost one: there is nothing left to remove.
    """

    id: str
    name: str
    attempt: int
    state: ContainerState
    sandbox_id: str = ""
    definition: str = ""
    image: str = ""
    image_id: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether only the last report knows of it."""
        return not self.sandbox_id


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, and when the next one is due."""

    reason: str
    message: str
    since: float
    retry_at: float
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class BackOff:
    """A container's crash back-off: how long it waits after an end, and when that was last set."""

    delay_seconds: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes of one container id have found.

    ``started`` and ``ready`` are true for a container without the probe in question; ``probe`` is the
    one that found it not alive.
    """

    started: bool = True
    ready: bool = True
    alive: bool = True
    message: str = ""
    probe: str = ""


class Resize(NamedTuple):
    """How a resize of the pod stands.

    Attributes:
        pending: ``Deferred`` or ``Infeasible``; empty if it is neither.
        message: why.
        is_going_on: whether it is being carried out.
        error: what stood in the way last time.
    """

    pending: str = ""
    message: str = ""
    is_going_on: bool = False
    error: str = ""


class Ended(NamedTuple):
    """That the node itself has ended the pod, and why.

    Attributes:
        reason: as its status has it.
        message: the same.
        grace_seconds: between TERM and KILL at most; None leaves the pod its own.
        is_final: whether it has failed for good; else it starts again when the agent does.
        is_disruption: whether it did nothing wrong itself.
    """

    reason: str
    message: str
    grace_seconds: int | None = None
    is_final: bool = True
    is_disruption: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything known of one pod.

    Attributes:
        sandboxes: newest first.
        containers: newest first within a name; initial and regular ones alike.
        volumes_ready: whether every volume has its host path.
        is_gone: the object left the store; nothing is to be reported any more.
        is_cleaned: sandbox, containers and volumes are gone for good.
        busy: what is being worked on now: ``sandbox``, ``volumes``, or a container's name.
        failures: by ``sandbox``, ``volumes``, or a container's name: the last attempt's.
        back_offs: by container name.
        health: by container id.
        kills: by container id: when the running stop reaches its end; a plan asks for an earlier
            one only.
        replaced: container ids that were stopped because their definition changed.
        hooked: container ids whose stop hook was begun before their turn.
        ending_since: when the pod's end began; 0 while it lives.
        started_at: when the agent first took the pod up; 0 before.
        token_expired: the pod runs with a ServiceAccount token past its time.
        ended: the node itself ended the pod, or never took it.
        resize: how a change of its resources stands; None for no change.
        volumes_released: its volumes are gone though the pod is not.
        dead_kept: how many dead containers of a name stay beside the newest.
        dead_age_seconds: one that ended since then stays anyway.
    """

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()
    volumes_ready: bool = False
    is_gone: bool = False
    is_cleaned: bool = False
    busy: frozenset[str] = frozenset()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    back_offs: Mapping[str, BackOff] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    kills: Mapping[str, float] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()
    hooked: frozenset[str] = frozenset()
    ending_since: float = 0.0
    started_at: float = 0.0
    token_expired: bool = False
    ended: Ended | None = None
    resize: Resize | None = None
    volumes_released: bool = False
    dead_kept: int = 1
    dead_age_seconds: float = 0.0

    def sandbox(self) -> Sandbox | None:
        """The sandbox that pods run in now: the newest, if it is ready."""
        return self.sandboxes[0] if self.sandboxes and self.sandboxes[0].ready else None

    def latest(self, name: str) -> Container | None:
        """The newest container of that name."""
        return next((one for one in self.containers if one.name == name), None)

    def previous(self, name: str) -> Container | None:
        """The one before the newest of that name."""
        found = [one for one in self.containers if one.name == name]
        return found[1] if len(found) > 1 else None
