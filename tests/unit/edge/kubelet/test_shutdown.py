# SPDX-License-Identifier: Apache-2.0
"""A shutdown's order, and what logind says, told by programs that stand in for systemd's."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kedge.edge.config import EdgeConfig
from kedge.edge.kubelet.node import shutdown
from kedge.edge.kubelet.node.shutdown import Shutdown, ended, groups, prepares
from tests.unit.edge.kubelet.builders import pod

if TYPE_CHECKING:
    from pathlib import Path


def named(name: str, priority: int = 0, **more: Any) -> dict[str, Any]:
    return pod(uid=name, name=name, priority=priority, **more)


def test_ordinary_pods_end_before_critical_ones_each_in_their_time() -> None:
    pods = [named("a"), named("system", 2_000_000_000), named("b", 1000)]
    assert groups(pods, 60, 20) == [(40, ("a", "b")), (20, ("system",))]
    assert groups(pods[:1], 60, 20) == [(40, ("a",))]
    assert groups([], 60, 20) == []


def test_what_runs_to_an_end_has_failed_and_what_runs_always_has_not() -> None:
    assert not ended(named("a"), 5).is_final
    job = ended(named("a", restartPolicy="OnFailure"), 5)
    assert (job.is_final, job.is_disruption, job.reason) == (True, True, "Terminated")


def signal(begins: bool) -> bytes:
    message = {"type": "signal", "member": "PrepareForShutdown", "payload": {"data": [begins]}}
    return json.dumps(message).encode() + b"\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (signal(begins=True), True),
        (signal(begins=False), False),
        (b'{"member": "PrepareForSleep", "payload": {"data": [true]}}', None),
        (b'{"member": "PrepareForShutdown"}', None),
        (b"[]", None),
        (b"Monitoring bus message stream.", None),
    ],
)
def test_only_loginds_word_for_a_shutdown_counts(line: bytes, expected: bool | None) -> None:
    assert prepares(line) is expected


class Machine:
    """A shutdown whose pods, node and recorder only remember."""

    def __init__(self, seconds: int = 30) -> None:
        self.ended: list[str] = []
        self.resumed = 0
        self.events: list[tuple[str, str]] = []
        self.node: Any = SimpleNamespace(closing="", report_now=lambda: None)
        worker = SimpleNamespace(uid="a", pod=named("a"), ended=None, has_stopped=lambda: True)
        worker.end = lambda one: self.ended.append(one.message)
        worker.resume = self._resume
        self.pods: Any = SimpleNamespace(workers=lambda: [worker], held=None)
        recorder: Any = SimpleNamespace(
            node=lambda reason, text, **_: self.events.append((reason, text))
        )
        self.shutdown = Shutdown(seconds, 10, self.pods, self.node, recorder)

    def _resume(self) -> None:
        self.resumed += 1


def programs(directory: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    for name, script in scripts.items():
        path = directory / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr(shutdown, "SYSTEMD", directory)
    monkeypatch.setattr(shutdown, "RETRY_SECONDS", 0.05)


async def listen(machine: Machine, until: Any) -> None:
    task = asyncio.get_running_loop().create_task(machine.shutdown.listen())
    async with asyncio.timeout(10):
        while not until():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    # A start that was cut closes its pipe in the loop's next turns.
    for _ in range(5):
        await asyncio.sleep(0.01)


async def test_logind_says_that_it_begins_and_its_lock_is_given_back_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(signal(begins=True))
    freed, words = tmp_path / "freed", tmp_path / "words"
    wait = f'trap "touch {freed}; exit" TERM; while true; do sleep 0.05; done'
    programs(
        tmp_path,
        monkeypatch,
        setpriv='shift 2; exec "$@"',
        systemd_inhibit=f'echo "$@" > {words}; cat {lines}; {wait}',
        busctl='echo \'{"type":"t","data":60000000}\'',
    )
    machine = Machine()
    await listen(machine, freed.exists)
    assert machine.ended == [shutdown.MESSAGE]
    assert machine.node.closing == "node is shutting down"
    assert machine.events == [("Shutdown", "Shutdown manager detected shutdown event")]
    assert "--what=shutdown --mode=delay" in words.read_text()
    machine.shutdown.cancel()
    assert (machine.node.closing, machine.resumed, machine.pods.held) == ("", 1, None)


async def test_a_logind_that_waits_too_little_is_named_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(
        tmp_path,
        monkeypatch,
        setpriv="exec sleep 5",
        busctl='echo \'{"type":"t","data":5000000}\'',
    )
    machine = Machine(seconds=45)
    await listen(machine, lambda: machine.events)
    ((reason, text),) = machine.events
    assert reason == "GracefulShutdownUnavailable"
    assert "logind waits 5 s" in text
    assert "InhibitDelayMaxSec=45" in text


async def test_a_machine_without_systemd_is_told_what_there_is_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "SYSTEMD", tmp_path / "absent")
    machine = Machine()
    await machine.shutdown.listen()
    assert "SIGPWR" in machine.events[0][1]


def test_critical_pods_cannot_have_more_time_than_there_is() -> None:
    with pytest.raises(ValueError, match="shutdownGracePeriodCriticalPodsSeconds: got: 20"):
        EdgeConfig(shutdown_grace_period_seconds=10, shutdown_grace_period_critical_pods_seconds=20)
