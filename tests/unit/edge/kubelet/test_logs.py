# SPDX-License-Identifier: Apache-2.0
"""Rotation of container logs, with a runtime in memory that writes nothing."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kedge.edge.kubelet.container.logs import Limits, Rotator, remove
from kedge.edge.runtime.fake import FakeRuntime

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {"metadata": {"name": "web", "attempt": 0}, "image": {"image": "busybox"}}
SANDBOX = {"metadata": {"name": "web", "attempt": 0}}


class Clock:
    def __init__(self, step: float) -> None:
        self.now = 1_700_000_000.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


async def started(runtime: FakeRuntime, path: Path) -> str:
    sandbox = await runtime.run_sandbox({**SANDBOX, "labels": {}, "annotations": {}})
    container = await runtime.create_container(sandbox, CONFIG, SANDBOX)
    await runtime.start_container(container)
    runtime.statuses[container] = replace(runtime.statuses[container], log_path=str(path))
    return container


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "default_web_uid" / "main" / "0.log"
    found.parent.mkdir(parents=True)
    found.write_bytes(b"x" * 200)
    return found


def rotator(runtime: FakeRuntime, path: Path, files: int = 3, *, step: float = 60.0) -> Rotator:
    def running() -> list[tuple[str, str]]:
        return [(one.id, str(path)) for one in runtime.statuses.values() if one.state == "running"]

    return Rotator(running, runtime, Limits(100, files), Clock(step))


async def test_a_large_log_is_renamed_and_the_runtime_opens_a_new_one(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    assert await rotator(runtime, path).look() == [str(path)]
    assert runtime.calls["reopen_container_log"] == 1
    assert not path.exists()
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"x" * 200]


async def test_a_small_log_costs_the_runtime_nothing(path: Path) -> None:
    path.write_bytes(b"x")
    runtime = FakeRuntime()
    await started(runtime, path)
    runtime.calls.clear()
    assert await rotator(runtime, path).look() == []
    assert not runtime.calls


async def test_older_files_are_compressed_and_the_oldest_go(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    rotating = rotator(runtime, path)
    for number in range(4):
        path.write_bytes(str(number).encode() * 200)
        await rotating.look()
    found = sorted(path.parent.iterdir())
    assert [one.suffix == ".gz" for one in found] == [True, False]
    assert gzip.decompress(found[0].read_bytes()) == b"2" * 200
    assert found[1].read_bytes() == b"3" * 200


async def test_a_refusing_runtime_keeps_its_file(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    runtime.fail["reopen_container_log"] = "not running"
    assert await rotator(runtime, path).look() == []
    assert path.read_bytes() == b"x" * 200


async def test_the_log_of_an_ended_container_is_left_alone(path: Path) -> None:
    runtime = FakeRuntime()
    runtime.end(await started(runtime, path), 0)
    assert await rotator(runtime, path).look() == []
    assert path.exists()


async def test_a_log_that_is_away_is_opened_again(path: Path) -> None:
    """An agent that died between renaming and opening leaves a container like that."""
    runtime = FakeRuntime()
    await started(runtime, path)
    path.rename(path.with_name("0.log.20260101-000000-000"))
    assert await rotator(runtime, path).look() == [str(path)]
    assert runtime.calls["reopen_container_log"] == 1


async def test_one_log_that_fails_does_not_hold_up_the_others(path: Path) -> None:
    runtime = FakeRuntime()
    first, second = await started(runtime, path), await started(runtime, path)
    other = path.with_name("1.log")
    other.write_bytes(b"y" * 200)
    rotating = Rotator(lambda: [(first, "/dev/null/x"), (second, str(other))], runtime, Limits(100))
    assert await rotating.look() == [str(other)]


async def test_the_faster_a_log_grows_the_sooner_it_is_looked_at(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    path.write_bytes(b"")
    rotating = rotator(runtime, path, step=1.0)
    await rotating.look()
    assert rotating.pause_seconds == 1.0
    path.write_bytes(b"x" * 60)
    await rotating.look()
    assert 0.5 < rotating.pause_seconds < 0.8
    path.write_bytes(b"x" * 99)
    await rotating.look()
    assert rotating.pause_seconds == 0.1
    await rotating.look()
    assert rotating.pause_seconds == 1.0


async def test_files_that_are_about_to_go_are_not_compressed(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    rotating = rotator(runtime, path, step=1.0)
    for number in range(5):
        path.write_bytes(str(number).encode() * 200)
        await rotating.look()
    assert [one.read_bytes()[:1] for one in sorted(path.parent.iterdir())] == [b"3", b"4"]


def test_removal_takes_what_was_rotated_too_and_nothing_else(path: Path) -> None:
    (path.parent / "0.log.20260101-000000.gz").write_bytes(b"")
    (path.parent / "1.log").write_bytes(b"")
    remove(path)
    assert [one.name for one in path.parent.iterdir()] == ["1.log"]
