# SPDX-License-Identifier: Apache-2.0
"""The supervisor with small children of its own: starts, restarts, stops in order, gives up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kedge.ctl import supervisor

ROOT = Path(__file__).resolve().parents[3] / "python"

PROGRAM = """
import json, sys
from kedge.ctl import supervisor
from kedge.ctl.supervisor import Child, Supervisor

directory, children = sys.argv[1], json.loads(sys.argv[2])
supervisor.MAX_EARLY_DEATHS = 3
supervisor.FIRST_DELAY_SECONDS = 0.02
made = [
    Child(name, ["-c", code], needs and f"{directory}/{needs}", directory, once=name == "once")
    for name, code, needs in children
]
sys.exit(Supervisor(made[:-1], made[-1]).run())
"""

RECORD = """
import os, signal, sys, time
def note(word):
    with open({path!r}, "a") as file: file.write(word + "\\n")
def end(*_):
    note("end {name}"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("start {name} %d" % os.getpid())
"""
FOR_EVER = "while True: time.sleep(1)\n"


class Rig:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = directory / "record"
        self.record.touch()

    def code(self, name: str, then: str = FOR_EVER) -> str:
        return RECORD.format(path=str(self.record), name=name) + then

    def start(self, *children: tuple[str, str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.directory), json.dumps(children)],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def wait(self, count: int) -> list[str]:
        until = time.monotonic() + 15
        while len(notes := self.record.read_text().splitlines()) < count:
            assert time.monotonic() < until, notes
            time.sleep(0.01)
        return notes

    def words(self) -> list[str]:
        return [" ".join(note.split()[:2]) for note in self.wait(0)]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_roles_end_in_the_reverse_order_of_their_start(rig):
    ready = f"open({str(rig.directory / 'ready')!r}, 'w')\n"
    process = rig.start(
        ("one", rig.code("one", f"time.sleep(0.2); note('x'); {ready}{FOR_EVER}"), ""),
        ("two", rig.code("two"), "ready"),
        ("once", "", ""),
    )
    rig.wait(3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 0
    assert rig.words() == ["start one", "x", "start two", "end two", "end one"]


def test_a_role_that_is_killed_starts_again(rig):
    process = rig.start(("one", rig.code("one"), ""), ("once", "", ""))
    [first] = rig.wait(1)
    os.kill(int(first.split()[2]), signal.SIGKILL)
    rig.wait(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert b"one was killed by signal 9, starts again in 0.0 s" in errors


def test_a_configuration_that_is_wrong_ends_everything_with_the_last_line(rig):
    bad = "import sys; print('kedge.cloud: x.yaml: listen: got: 5'); sys.exit(78)"
    process = rig.start(
        ("one", rig.code("one"), ""), ("two", bad, ""), ("once", rig.code("once"), "")
    )
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert b"error: two ended with status 78: kedge.cloud: x.yaml: listen: got: 5" in errors


def test_a_role_that_cannot_start_is_not_tried_for_ever(rig):
    process = rig.start(("one", "raise SystemExit('no luck')", ""), ("once", rig.code("once"), ""))
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert errors.count(b"starts again") == 2
    assert b"error: one ended with status 1: no luck" in errors


def test_children_die_with_a_supervisor_that_is_killed(rig):
    process = rig.start(("one", rig.code("one"), ""), ("once", "", ""))
    rig.wait(1)
    process.kill()
    process.communicate(timeout=15)
    rig.wait(2)
    assert rig.words() == ["start one", "end one"]


def test_output_goes_to_a_log_of_limited_size(rig, monkeypatch):
    monkeypatch.setattr(supervisor, "LOG_BYTES", 100)
    log = supervisor.Log(str(rig.directory / "a.log"))
    for _ in range(10):
        log.write(b"x" * 40)
    assert (rig.directory / "a.log").stat().st_size <= 100
    assert (rig.directory / "a.log.1").stat().st_size <= 100
