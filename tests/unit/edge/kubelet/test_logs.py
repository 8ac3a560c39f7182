# SPDX-License-Identifier: Apache-2.0
"""Rotation of container logs, with a runtime in memory that writes nothing."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kedge.edge.kubelet.logs import Limits, Rotator, remove
from kedge.edge.runtime.fake import FakeRuntime
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {"metadata": {"name": "web", "attempt": 0}, "image": {"image": "busybox"}}
SANDBOX = {"metadata": {"name": "web", "attempt": 0}}


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1
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


def rotator(runtime: FakeRuntime, path: Path, files: int = 3) -> Rotator:
    return Rotator(path.parents[2], runtime, Limits(100, files), Clock())


async def test_a_large_log_is_renamed_and_the_runtime_opens_a_new_one(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    assert await rotator(runtime, path).rotate() == [path]
    assert runtime.calls["reopen_container_log"] == 1
    assert not path.exists()
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"x" * 200]


async def test_a_small_log_costs_the_runtime_nothing(path: Path) -> None:
    path.write_bytes(b"x")
    runtime = FakeRuntime()
    await started(runtime, path)
    runtime.calls.clear()
    assert await rotator(runtime, path).rotate() == []
    assert not runtime.calls


async def test_older_files_are_compressed_and_the_oldest_go(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    rotating = rotator(runtime, path)
    for number in range(4):
        path.write_bytes(str(number).encode() * 200)
        await rotating.rotate()
    found = sorted(path.parent.iterdir())
    assert [one.suffix == ".gz" for one in found] == [True, False]
    assert gzip.decompress(found[0].read_bytes()) == b"2" * 200
    assert found[1].read_bytes() == b"3" * 200


async def test_a_refusing_runtime_keeps_its_file(path: Path) -> None:
    runtime = FakeRuntime()
    await started(runtime, path)
    runtime.fail["reopen_container_log"] = "not running"
    with pytest.raises(RuntimeFailure):
        await rotator(runtime, path).rotate()
    assert path.read_bytes() == b"x" * 200


async def test_the_log_of_an_ended_container_is_left_alone(path: Path) -> None:
    runtime = FakeRuntime()
    runtime.end(await started(runtime, path), 0)
    assert await rotator(runtime, path).rotate() == []
    assert path.exists()


def test_removal_takes_what_was_rotated_too_and_nothing_else(path: Path) -> None:
    (path.parent / "0.log.20260101-000000.gz").write_bytes(b"")
    (path.parent / "1.log").write_bytes(b"")
    remove(path)
    assert [one.name for one in path.parent.iterdir()] == ["1.log"]
