# SPDX-License-Identifier: Apache-2.0
"""Startup, readiness and liveness probes: thresholds (pure) and a task per probed container.

A ``Prober`` watches the probes of one container id. It tells its owner only when the verdict
(``Health``) changes. Results are kept per container id, so a restarted container starts afresh.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from kedge.aio import wait_at_most
from kedge.edge.kubelet.health import checks
from kedge.edge.kubelet.pod.state import Health

if TYPE_CHECKING:
    from collections.abc import Callable

STARTUP, READINESS, LIVENESS = "startup", "readiness", "liveness"
READINESS_FIRST_SECONDS = 1.0
"""How long at most the first liveness attempt after a startup probe leaves the machine to readiness."""
_FIELDS = {STARTUP: "startupProbe", READINESS: "readinessProbe", LIVENESS: "livenessProbe"}


@dataclass(frozen=True, slots=True)
class Rule:
    """When a probe runs and what its results mean. Seconds; counts of results in a row."""

    initial_delay_seconds: float
    period_seconds: float
    timeout_seconds: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: dict[str, Any]) -> Rule:
        """The rule of a probe object, with the API's defaults."""
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """Results of one probe so far: how many alike in a row, and what they amount to."""

    good: bool
    in_a_row: int = 0
    last: bool | None = None

    def add(self, ok: bool, rule: Rule) -> Tally:  # noqa: FBT001 - the result itself
        """The tally after one more result."""
        count = self.in_a_row + 1 if ok == self.last else 1
        threshold = rule.success_threshold if ok else rule.failure_threshold
        good = ok if count >= threshold else self.good
        return Tally(good, min(count, 1_000_000), ok)


class Target(Protocol):
    """What a probe needs of its container."""

    async def execute(self, command: list[str], timeout_seconds: float) -> tuple[int, str]:
        """Runs a command inside; exit code and output."""

    async def ask(self, what: dict[str, Any], timeout_seconds: float) -> tuple[bool, str]:
        """Makes a network probe; whether it succeeded, and what to show if not."""

    def address(self) -> str:
        """Where the pod answers."""


def initial_health(container: dict[str, Any]) -> Health:
    """The verdict before any result."""
    return Health(started="startupProbe" not in container, ready="readinessProbe" not in container)


def has_probes(container: dict[str, Any]) -> bool:
    """Whether a container needs a prober at all."""
    return any(field in container for field in _FIELDS.values())


class Prober:
    """Runs the probes of one container.

    Args:
        container: its spec.
        target: the container.
        changed: told of every change of the verdict.
        unhealthy: told of every failed attempt: probe name and output; for Events.
        counted: told of every attempt: probe name and whether it succeeded; for metrics.
    """

    def __init__(
        self,
        container: dict[str, Any],
        target: Target,
        *,
        changed: Callable[[Health], None],
        unhealthy: Callable[[str, str], None],
        counted: Callable[[str, bool], None] = lambda _kind, _ok: None,
    ) -> None:
        self._container = container
        self._target = target
        self._changed = changed
        self._unhealthy = unhealthy
        self._counted = counted
        self.health = initial_health(container)
        self._readiness: asyncio.Event | None = None
        """Set with the first readiness attempt, if the liveness probe waits for it."""

    async def run(
        self,
        started_seconds_ago: float,
        known_ready: bool,  # noqa: FBT001
        spread: float = 0.0,
    ) -> None:
        """Probes until cancelled, or until the container has failed its liveness or startup probe.

        Args:
            started_seconds_ago: the container's age, for the initial delays after an agent's restart.
            known_ready: it was ready when last reported; it stays so until a probe says otherwise.
            spread: the share of a period, 0 to 1, that the first attempts wait.
        """
        began = asyncio.get_running_loop().time() - started_seconds_ago
        if known_ready:
            self._set(replace(self.health, started=True, ready=True))
        if not self.health.started:
            await self._loop(STARTUP, began, spread)
            if not self.health.alive:
                return
            if _FIELDS[READINESS] in self._container:
                # It has just shown that it is alive; whether it is ready is what others wait for.
                self._readiness = asyncio.Event()
        tasks = [kind for kind in (READINESS, LIVENESS) if _FIELDS[kind] in self._container]
        async with asyncio.TaskGroup() as group:
            for kind in tasks:
                group.create_task(self._loop(kind, began, spread))

    async def _loop(self, kind: str, began: float, spread: float) -> None:
        probe = self._container[_FIELDS[kind]]
        rule = Rule.of(probe)
        tally = Tally(good=self.health.ready if kind == READINESS else kind == LIVENESS)
        age = asyncio.get_running_loop().time() - began
        await asyncio.sleep(
            max(0.0, rule.initial_delay_seconds - age) + spread * rule.period_seconds
        )
        if kind == LIVENESS and self._readiness is not None:
            await wait_at_most(self._readiness, READINESS_FIRST_SECONDS)
        failures = 0
        while True:
            ok, output = await checks.check(
                probe, self._container, self._target, rule.timeout_seconds
            )
            tally = tally.add(ok, rule)
            self._counted(kind, ok)
            if kind == READINESS and self._readiness is not None:
                self._readiness.set()
            failures = 0 if ok else failures + 1
            if not ok:
                self._unhealthy(kind, output)
            if self._conclude(kind, tally, failures >= rule.failure_threshold):
                return
            await asyncio.sleep(rule.period_seconds)

    def _conclude(self, kind: str, tally: Tally, is_over: bool) -> bool:  # noqa: FBT001
        """Applies a tally; whether this probe has nothing more to say."""
        if kind == READINESS:
            self._set(replace(self.health, ready=tally.good))
            return False
        if is_over:
            self._set(
                replace(
                    self.health,
                    alive=False,
                    ready=False,
                    message=f"failed {kind} probe",
                    probe=kind,
                )
            )
            return True
        if kind == STARTUP and tally.good:
            self._set(replace(self.health, started=True))
            return True
        return False

    def _set(self, health: Health) -> None:
        if health != self.health:
            self.health = health
            self._changed(health)
