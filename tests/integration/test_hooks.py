# SPDX-License-Identifier: Apache-2.0
"""Hooks and ephemeral containers, from the store to a runtime in memory and back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kedge.edge.kubelet.health import hooks
from kedge.edge.runtime import ExecResult
from kedge.edge.runtime.fake import FakeRuntime
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    pass


def hooked(when: str, what: dict[str, Any], **more: Any) -> dict[str, Any]:
    return spec(lifecycle={when: what}, **more)


EXEC = {"exec": {"command": ["work"]}}


def sleep(seconds: int) -> dict[str, Any]:
    return {"sleep": {"seconds": seconds}}


def deleted(one: dict[str, Any], grace: int) -> dict[str, Any]:
    metadata = one["metadata"] | {
        "deletionTimestamp": "2027-01-15T08:00:30Z",
        "deletionGracePeriodSeconds": grace,
    }
    return one | {"metadata": metadata}


def state(kubelet: Kubelet, kind: str = "containerStatuses") -> dict[str, Any]:
    found = kubelet.status("web").get(kind) or [{"state": {}}]
    return dict(found[0]["state"])


async def test_a_container_is_started_when_its_start_hook_has_ended(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.delays["exec_sync"] = 0.3
    async with kubelet:
        await kubelet.apply(pod(hooked("postStart", EXEC, readinessProbe=EXEC)))
        await until(lambda: runtime.calls["exec_sync"] == 1)
        await asyncio.sleep(0.1)
        assert runtime.calls["exec_sync"] == 1, "no probe before"
        assert "running" not in state(kubelet)
        assert not kubelet.is_ready("web")
        await until(lambda: kubelet.is_ready("web"))


async def test_a_container_whose_start_hook_fails_is_stopped_and_started_again(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.exec_results["main"] = ExecResult(3, b"a secret")
    async with kubelet:
        await kubelet.apply(pod(hooked("postStart", EXEC)))
        await until(lambda: runtime.calls["create_container"] == 2)
        events = await kubelet.events()
        assert ("FailedPostStartHook", "PostStartHook failed: exec ended with code 3") in events
        assert ("Killing", "FailedPostStartHook") in events
        assert "secret" not in str(events)
        await until(
            lambda: state(kubelet).get("waiting", {}).get("reason") == "PostStartHookError",
            "its status says why",
        )


async def test_a_start_hook_that_fails_ends_a_pod_that_never_restarts(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.exec_results["main"] = ExecResult(3)
    runtime.delays["stop_container"] = 0.05
    async with kubelet:
        held = pod(hooked("postStart", EXEC), restartPolicy="Never")
        held["spec"]["terminationGracePeriodSeconds"] = 0
        await kubelet.apply(held)
        await until(lambda: kubelet.status("web").get("phase") == "Failed")
        assert runtime.calls["create_container"] == 1


async def test_a_start_hook_that_hangs_is_named_and_does_not_hold_up_the_pods_end(
    kubelet: Kubelet, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "SLOW_SECONDS", 0.05)
    runtime.delays["exec_sync"] = 1000
    desired = pod(hooked("postStart", EXEC))
    async with kubelet:
        await kubelet.apply(desired, pod(uid="u2", name="other"))
        await until(lambda: kubelet.is_ready("other"), "no other pod notices")
        await until(
            lambda: "PostStartHook (exec)" in state(kubelet).get("waiting", {}).get("message", ""),
            "the status names it",
        )
        assert any(reason == "SlowPostStartHook" for reason, _ in await kubelet.events())
        await kubelet.apply(deleted(desired, 1))
        await until(lambda: kubelet.is_reported_deleted("web"))
        assert runtime.grace_used == [1]


async def test_a_stop_hook_runs_before_the_stop_and_uses_up_the_grace(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.delays["exec_sync"] = 0.2
    desired = pod(hooked("preStop", EXEC))
    async with kubelet:
        await kubelet.apply(desired)
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(desired, 5))
        await until(lambda: runtime.calls["exec_sync"] == 1)
        assert runtime.calls["stop_container"] == 0
        await until(lambda: kubelet.is_reported_deleted("web"))
        assert runtime.grace_used == [5], "0.2 s of 5 are used"


async def test_a_stop_hook_that_hangs_is_cut_by_the_grace(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    desired = pod(hooked("preStop", sleep(1000)))
    async with kubelet:
        await kubelet.apply(desired)
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(desired, 1))
        await until(lambda: kubelet.is_reported_deleted("web"))
        assert runtime.grace_used == [1], "all that there was; else two seconds"
        said = "PreStopHook not completed in grace period of 1s"
        assert ("FailedPreStopHook", said) in await kubelet.events()


async def test_a_stop_hook_that_fails_is_named_and_the_stop_goes_on(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    desired = pod(hooked("preStop", {"httpGet": {"port": 80}}))
    async with kubelet:
        await kubelet.apply(desired)
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(desired, 3))
        await until(lambda: kubelet.is_reported_deleted("web"))
        events = dict(await kubelet.events())
        assert events["FailedPreStopHook"].startswith("PreStopHook failed: httpGet: no network")


async def test_a_shorter_grace_cuts_a_stop_hook(kubelet: Kubelet, runtime: FakeRuntime) -> None:
    desired = pod(hooked("preStop", sleep(1000)))
    async with kubelet:
        await kubelet.apply(desired)
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(desired, 500))
        await asyncio.sleep(0.05)
        assert runtime.calls["stop_container"] == 0
        await kubelet.apply(deleted(desired, 0))
        await until(lambda: kubelet.is_reported_deleted("web"))
        assert runtime.grace_used[0] == 0


async def test_a_container_that_ends_cuts_its_stop_hook(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    desired = pod(hooked("preStop", sleep(1000)))
    async with kubelet:
        await kubelet.apply(desired)
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(desired, 500))
        await asyncio.sleep(0.05)
        runtime.end(next(iter(runtime.containers)), 0)
        await until(lambda: kubelet.is_reported_deleted("web"))


async def test_sidecars_end_after_the_others_in_reverse_order(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    ended: list[str] = []
    end = runtime.end

    def note(container_id: str, code: int) -> None:
        ended.append(runtime.containers[container_id].name)
        end(container_id, code)

    runtime.end = note  # type: ignore[method-assign]
    sidecars = [spec(name, restartPolicy="Always") for name in ("first", "last")]
    async with kubelet:
        await kubelet.apply(pod(initContainers=sidecars, restartPolicy="Never"))
        await until(lambda: kubelet.is_ready("web"))
        main = next(one.id for one in runtime.containers.values() if one.name == "main")
        runtime.end(main, 0)
        await until(lambda: kubelet.status("web").get("phase") == "Succeeded")
        assert ended == ["main", "last", "first"]
        assert runtime.calls["create_container"] == 3, "none of them ran again"


async def test_an_ephemeral_container_joins_the_running_sandbox_and_runs_once(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    look = spec("look", image="tools:1", targetContainerName="main")
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(pod(ephemeralContainers=[look]))
        await until(lambda: "running" in state(kubelet, "ephemeralContainerStatuses"))
        assert runtime.calls["run_sandbox"] == 1
        found = {one.name: one.id for one in runtime.containers.values()}
        linux = runtime.configs[found["look"]]["linux"]
        options = linux["security_context"]["namespace_options"]
        assert (options["pid"], options["target_id"]) == (3, found["main"])
        runtime.end(found["look"], 7)
        await until(lambda: "terminated" in state(kubelet, "ephemeralContainerStatuses"))
        assert state(kubelet, "ephemeralContainerStatuses")["terminated"]["exitCode"] == 7
        assert kubelet.is_ready("web")
    runtime.lose_everything()
    async with kubelet:
        await until(lambda: runtime.calls["run_sandbox"] == 2 and kubelet.is_ready("web"))
        assert "terminated" in state(kubelet, "ephemeralContainerStatuses"), "not after a reboot"


async def test_an_ephemeral_container_without_its_target_says_so(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    look = spec("look", targetContainerName="nobody")
    async with kubelet:
        await kubelet.apply(pod(ephemeralContainers=[look]))
        await until(lambda: "waiting" in state(kubelet, "ephemeralContainerStatuses"))
        await until(
            lambda: (
                state(kubelet, "ephemeralContainerStatuses")["waiting"]["reason"]
                == "CreateContainerConfigError"
            )
        )
        events = await kubelet.events()
        assert ("Failed", "Error: unable to find target container nobody") in events
        assert kubelet.is_ready("web")
