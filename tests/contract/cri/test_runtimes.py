# SPDX-License-Identifier: Apache-2.0
"""One suite for every ContainerRuntime: what the kubelet relies on, in memory and with containerd."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from kedge.edge.runtime.fake import FakeRuntime
from kedge.errors import RuntimeFailure
from tests.rig.images import IMAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kedge.edge.runtime import ContainerRuntime, ContainerStatus

SECONDS = 20


@dataclass
class Case:
    """A runtime and how to make things in it."""

    runtime: ContainerRuntime
    logs: Path
    scripted: FakeRuntime | None = None

    def sandbox(self, attempt: int = 0) -> dict[str, Any]:
        uid = uuid.uuid4().hex
        return {
            "metadata": {"name": "pod", "namespace": "default", "uid": uid, "attempt": attempt},
            "hostname": "pod",
            "log_directory": str(self.logs / uid),
            "labels": {"io.kubernetes.pod.uid": uid},
            "annotations": {"kept": "as it was"},
            "linux": {},
        }

    def container(
        self, name: str = "main", attempt: int = 0, exit_code: int | None = None
    ) -> dict[str, Any]:
        if self.scripted is not None and exit_code is not None:
            self.scripted.exits[name] = [exit_code]
        command = ["sleep", "1000"] if exit_code is None else ["sh", "-c", f"exit {exit_code}"]
        return {
            "metadata": {"name": name, "attempt": attempt},
            "image": {"image": IMAGE, "user_specified_image": IMAGE},
            "command": command,
            "labels": {"io.kubernetes.container.name": name},
            "annotations": {"hash": "1"},
            "log_path": f"{name}.log",
            "linux": {},
        }

    async def running(self) -> tuple[str, str]:
        config = self.sandbox()
        sandbox = await self.runtime.run_sandbox(config)
        container = await self.runtime.create_container(sandbox, self.container(), config)
        await self.runtime.start_container(container)
        return sandbox, container

    async def until(self, container: str, state: str) -> ContainerStatus:
        async with asyncio.timeout(SECONDS):
            while True:
                found = await self.runtime.container_status(container)
                if found is not None and found.state == state:
                    return found
                await asyncio.sleep(0.05)


@pytest.fixture(params=["fake", pytest.param("containerd", marks=pytest.mark.e2e)])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    if request.param == "fake":
        fake = FakeRuntime()
        yield Case(fake, tmp_path, fake)
        return
    from bench.direct_cri import connected

    async with connected(request.getfixturevalue("containerd").endpoint) as runtime:
        yield Case(runtime, tmp_path)
        for one in await runtime.list_sandboxes():
            await runtime.stop_sandbox(one.id)
            await runtime.remove_sandbox(one.id)


async def test_it_names_itself_and_is_ready(case: Case) -> None:
    assert (await case.runtime.version()).name
    assert {one.type: one.status for one in await case.runtime.status()} == {
        "RuntimeReady": True,
        "NetworkReady": True,
    }
    assert await case.runtime.cgroup_driver() in ("cgroupfs", "systemd", None)


async def test_a_sandbox_is_ready_with_an_address_until_it_is_stopped(case: Case) -> None:
    config = case.sandbox(attempt=2)
    sandbox = await case.runtime.run_sandbox(config)
    found = await case.runtime.sandbox_status(sandbox)
    assert found is not None
    assert found.ready
    assert found.ips
    assert (found.attempt, dict(found.labels), dict(found.annotations)) == (
        2,
        config["labels"],
        config["annotations"],
    )
    await case.runtime.stop_sandbox(sandbox)
    await case.runtime.stop_sandbox(sandbox)
    found = await case.runtime.sandbox_status(sandbox)
    assert found is not None
    assert not found.ready
    await case.runtime.remove_sandbox(sandbox)
    assert await case.runtime.sandbox_status(sandbox) is None
    assert sandbox not in {one.id for one in await case.runtime.list_sandboxes()}


async def test_a_container_is_created_then_runs_with_its_times(case: Case) -> None:
    config = case.sandbox()
    sandbox = await case.runtime.run_sandbox(config)
    container = await case.runtime.create_container(sandbox, case.container(attempt=3), config)
    listed = {one.id: one for one in await case.runtime.list_containers()}[container]
    assert (listed.sandbox_id, listed.name, listed.attempt, listed.state) == (
        sandbox,
        "main",
        3,
        "created",
    )
    assert listed.image == IMAGE
    assert dict(listed.annotations) == {"hash": "1"}
    await case.runtime.start_container(container)
    found = await case.until(container, "running")
    assert found.started_at > 0
    assert found.finished_at == 0


async def test_an_exit_keeps_its_code_and_time(case: Case) -> None:
    config = case.sandbox()
    sandbox = await case.runtime.run_sandbox(config)
    container = await case.runtime.create_container(sandbox, case.container(exit_code=3), config)
    await case.runtime.start_container(container)
    found = await case.until(container, "exited")
    assert found.exit_code == 3
    assert found.finished_at > 0
    assert found.started_at > 0


async def test_an_exit_comes_as_an_event(case: Case) -> None:
    config = case.sandbox()
    sandbox = await case.runtime.run_sandbox(config)
    container = await case.runtime.create_container(sandbox, case.container(exit_code=0), config)
    async with asyncio.timeout(SECONDS), contextlib.aclosing(case.runtime.events()) as events:  # type: ignore[type-var]
        await case.runtime.start_container(container)
        async for changed in events:
            found = await case.runtime.container_status(container)
            if changed == container and found is not None and found.state == "exited":
                break


async def test_a_stopped_container_has_exited_and_stopping_it_again_is_no_error(case: Case) -> None:
    _, container = await case.running()
    await case.runtime.stop_container(container, 0)
    assert (await case.until(container, "exited")).exit_code == 137
    await case.runtime.stop_container(container, 0)


async def test_what_is_removed_is_gone_and_removing_it_again_is_no_error(case: Case) -> None:
    sandbox, container = await case.running()
    await case.runtime.stop_container(container, 0)
    await case.runtime.remove_container(container)
    await case.runtime.remove_container(container)
    assert await case.runtime.container_status(container) is None
    await case.runtime.remove_sandbox(sandbox)
    await case.runtime.remove_sandbox(sandbox)


async def test_a_stopped_sandbox_takes_its_containers_along(case: Case) -> None:
    sandbox, container = await case.running()
    await case.runtime.stop_sandbox(sandbox)
    await case.until(container, "exited")
    await case.runtime.remove_sandbox(sandbox)
    assert await case.runtime.container_status(container) is None


async def test_the_same_name_and_attempt_twice_is_refused(case: Case) -> None:
    config = case.sandbox()
    sandbox = await case.runtime.run_sandbox(config)
    await case.runtime.create_container(sandbox, case.container(), config)
    with pytest.raises(RuntimeFailure, match="reserved"):
        await case.runtime.create_container(sandbox, case.container(), config)


async def test_a_container_in_no_sandbox_is_refused(case: Case) -> None:
    with pytest.raises(RuntimeFailure):
        await case.runtime.create_container("absent", case.container(), case.sandbox())


async def test_a_command_runs_in_a_container(case: Case) -> None:
    _, container = await case.running()
    assert (await case.runtime.exec_sync(container, ["true"], 5)).exit_code == 0


async def test_an_image_that_is_not_there_is_none_and_cannot_be_pulled(case: Case) -> None:
    absent = "127.0.0.1:1/absent:1"
    if case.scripted is not None:
        case.scripted.missing_images.add(absent)
        case.scripted.unpullable.add(absent)
    assert await case.runtime.image_status(absent) is None
    with pytest.raises(RuntimeFailure):
        await case.runtime.pull_image(absent, None)


async def test_an_image_that_is_there_has_an_id_and_tags(case: Case) -> None:
    found = await case.runtime.image_status(IMAGE)
    assert found is not None
    assert found.id.startswith("sha256:")
    assert IMAGE in found.tags


async def test_running_containers_have_statistics(case: Case) -> None:
    _, container = await case.running()
    found = {one.id: one for one in await case.runtime.container_stats()}
    assert found[container].memory_bytes > 0
