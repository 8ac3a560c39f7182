# SPDX-License-Identifier: Apache-2.0
"""A runtime that loses a container, or does not know what it does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kedge.edge.runtime.fake import FakeRuntime
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    pass


def main_status(kubelet: Kubelet, name: str = "web") -> dict[str, Any]:
    found: dict[str, Any] = kubelet.status(name)["containerStatuses"][0]
    return found


async def test_a_container_that_the_runtime_lost_is_started_again_and_counted(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(pod(), pod(uid="u2", name="other"))
        await until(lambda: kubelet.is_ready("web") and kubelet.is_ready("other"))
        lost = main_status(kubelet)["containerID"].rpartition("//")[2]
        del runtime.containers[lost], runtime.statuses[lost]
        runtime._changed.put_nowait(lost)
        await until(lambda: main_status(kubelet)["restartCount"] == 1)
        ended = main_status(kubelet)["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")
        assert main_status(kubelet, "other")["restartCount"] == 0
        assert runtime.calls["run_sandbox"] == 2, "no sandbox was made anew"


async def test_a_lost_container_of_a_pod_that_never_restarts_fails_it(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(pod(spec(), restartPolicy="Never"))
        await until(lambda: kubelet.is_ready("web"))
        lost = next(iter(runtime.containers))
        del runtime.containers[lost], runtime.statuses[lost]
        runtime._changed.put_nowait(lost)
        await until(lambda: kubelet.status("web")["phase"] == "Failed")
        assert runtime.calls["create_container"] == 1


async def test_a_container_in_an_unknown_state_is_ended_and_started_again(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: kubelet.is_ready("web"))
        one = next(iter(runtime.containers))
        runtime.containers[one] = replace(runtime.containers[one], state="unknown")
        runtime.statuses[one] = replace(runtime.statuses[one], state="unknown")

        def stop() -> None:
            runtime.containers[one] = replace(runtime.containers[one], state="running")

        runtime._changed.put_nowait(one)
        await until(lambda: runtime.grace_used[:1] == [0])
        await asyncio.sleep(0.1)
        assert runtime.grace_used == [0], "it is not asked again at once"
        stop()
        runtime.end(one, 137)
        await until(lambda: main_status(kubelet)["restartCount"] == 1)
        assert any("unknown state" in text for _, text in await kubelet.events())
