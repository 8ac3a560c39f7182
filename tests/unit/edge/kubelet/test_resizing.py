# SPDX-License-Identifier: Apache-2.0
"""Resizing in place: what the node answers, and what follows, with the runtime in memory."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.resources import resizing, resources
from kedge.edge.kubelet.resources.resizing import (
    Answer,
    allocated_before,
    answer,
    larger,
    must_restart,
)
from kedge.edge.kubelet.resources.resources import Limits
from kedge.edge.runtime.fake import FakeRuntime
from kedge.store import Store
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODE = {"cpu": "2", "memory": "1Gi"}


def asking(cpu: str = "500m", memory: str = "64Mi", **more: Any) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": memory}
    return pod(spec(resources={"requests": amounts, "limits": amounts}), **more)


# the answer


def test_what_fits_is_granted_and_less_always_is() -> None:
    assert answer(asking("1"), asking(), [asking("900m")], NODE) == Answer()
    crowd = [asking("2"), asking("2")]
    assert answer(asking("100m"), asking(), crowd, NODE) == Answer()


def test_more_than_the_node_has_is_infeasible_and_more_than_is_free_deferred() -> None:
    found = answer(asking("3"), asking(), [], NODE)
    text = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
    assert found == Answer("Infeasible", text)
    found = answer(asking(memory="600Mi"), asking(), [asking(memory="500Mi")], NODE)
    assert found.reason == "Deferred"
    assert found.message == (
        f"Node didn't have enough resource: memory, requested: {600 << 20}, "
        f"used: {500 << 20}, capacity: {1 << 30}"
    )


@pytest.mark.parametrize(
    ("changed", "policy", "expected"),
    [
        ("cpu", {"cpu": "NotRequired", "memory": "RestartContainer"}, False),
        ("memory", {"cpu": "NotRequired", "memory": "RestartContainer"}, True),
        ("memory", {}, False),
    ],
)
def test_only_a_changed_resource_asks_for_its_restart(
    changed: str, policy: dict[str, str], expected: bool
) -> None:
    before = spec(resources={"limits": {"cpu": "1", "memory": "1Mi"}})
    after = copy.deepcopy(before)
    after["resources"]["limits"][changed] = "2"
    after["resizePolicy"] = [
        {"resourceName": name, "restartPolicy": value} for name, value in policy.items()
    ]
    assert must_restart(before, after) is expected


def test_a_pod_has_room_for_both_sizes_while_it_changes() -> None:
    one, other = Limits(100, 50_000, 64 << 20), Limits(50, 80_000, -1)
    assert larger(one, other) == Limits(100, 80_000, -1)


def test_the_definition_of_a_container_does_not_count_its_resources() -> None:
    assert lifecycle.definition(spec(resources={"limits": {"cpu": "1"}})) == lifecycle.definition(
        spec()
    )


def test_a_report_says_what_was_allocated_before_a_restart_of_the_agent() -> None:
    wanted = asking("1")
    given = {"limits": {"cpu": "500m"}}
    status = {"containerStatuses": [{"name": "main", "containerID": "c://1", "resources": given}]}
    assert resources.reported_differ(wanted, status)
    assert allocated_before(wanted, status)["spec"]["containers"][0]["resources"] == given
    status["containerStatuses"][0]["resources"] = wanted["spec"]["containers"][0]["resources"]
    assert not resources.reported_differ(wanted, status)
    assert resizing.with_resources(wanted, wanted) is wanted


# what follows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store", mode="replica", durable=False)
    yield opened
    opened.close()


@pytest.fixture
def kubelet(store: Store, tmp_path: Path) -> Kubelet:
    return Kubelet(store, FakeRuntime(), tmp_path)


def given(kubelet: Kubelet, name: str = "web") -> dict[str, Any]:
    (one,) = kubelet.status(name).get("containerStatuses") or [{}]
    return one.get("resources", {}).get("limits", {})


def condition(kubelet: Kubelet, kind: str) -> dict[str, Any]:
    found = kubelet.status("web").get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


async def start(kubelet: Kubelet, *pods: dict[str, Any]) -> None:
    kubelet.tools.facts.allocatable = NODE
    object.__setattr__(kubelet.tools, "others", kubelet.pods.others)
    object.__setattr__(kubelet.tools, "room", kubelet.pods.room)
    await kubelet.apply(*pods)
    for one in pods:
        name = one["metadata"]["name"]
        await until(lambda name=name: kubelet.is_ready(name), f"{name} is ready")


async def test_a_running_container_gets_its_new_limits_and_is_not_restarted(
    kubelet: Kubelet,
) -> None:
    async with kubelet:
        await start(kubelet, asking())
        await kubelet.apply(asking("1", "128Mi"))
        await until(lambda: given(kubelet) == {"cpu": "1", "memory": "128Mi"}, "it is reported")
        (one,) = kubelet.runtime.containers
        assert kubelet.runtime.configs[one]["resources"] == {
            "cpu_shares": 1024,
            "cpu_period": 100_000,
            "cpu_quota": 100_000,
            "memory_limit_in_bytes": 128 << 20,
            "memory_swap_limit_in_bytes": 128 << 20,
        }
        (status,) = kubelet.status("web")["containerStatuses"]
        assert status["allocatedResources"] == {"cpu": "1", "memory": "128Mi"}
        assert status["restartCount"] == 0
        await until(lambda: not condition(kubelet, "PodResizeInProgress"), "it is over")
        reasons = [reason for reason, _ in await kubelet.events()]
        assert reasons[-2:] == ["ResizeStarted", "ResizeCompleted"]


async def test_a_wish_that_others_stand_in_the_way_of_waits_until_one_goes(
    kubelet: Kubelet,
) -> None:
    async with kubelet:
        other = asking("1500m", uid="u2", name="other")
        await start(kubelet, asking(), other)
        await kubelet.apply(asking("1"))
        await until(lambda: condition(kubelet, "PodResizePending"), "it waits")
        assert condition(kubelet, "PodResizePending")["reason"] == "Deferred"
        assert given(kubelet)["cpu"] == "500m"
        await kubelet.delete(other)
        await until(lambda: given(kubelet)["cpu"] == "1", "there is room")
        await until(lambda: not condition(kubelet, "PodResizePending"), "it waits no more")


async def test_a_wish_can_be_taken_back(kubelet: Kubelet) -> None:
    async with kubelet:
        await start(kubelet, asking())
        await kubelet.apply(asking("8"))
        await until(lambda: condition(kubelet, "PodResizePending"), "it is refused")
        assert condition(kubelet, "PodResizePending")["reason"] == "Infeasible"
        await kubelet.apply(asking())
        await until(lambda: not condition(kubelet, "PodResizePending"), "all is well")
        assert kubelet.runtime.calls["update_container_resources"] == 0


async def test_a_container_that_wants_it_is_restarted_with_its_new_limits(
    kubelet: Kubelet,
) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    before, after = asking(), asking(memory="128Mi")
    for one in (before, after):
        one["spec"]["containers"][0]["resizePolicy"] = policy
    async with kubelet:
        await start(kubelet, before)
        await kubelet.apply(after)
        await until(
            lambda: kubelet.status("web")["containerStatuses"][0]["restartCount"] == 1,
            "it is restarted",
        )
        await until(lambda: kubelet.is_ready("web"), "it is ready again")
        newest = max(kubelet.runtime.containers.values(), key=lambda one: one.attempt)
        linux = kubelet.runtime.configs[newest.id]["linux"]["resources"]
        assert linux["memory_limit_in_bytes"] == 128 << 20
        assert kubelet.runtime.calls["update_container_resources"] == 0


async def test_what_the_runtime_refuses_is_said_and_tried_again(
    kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resizing, "RETRY_SECONDS", 0.05)
    async with kubelet:
        await start(kubelet, asking())
        kubelet.runtime.fail["update_container_resources"] = "no such knob"
        await kubelet.apply(asking("1"))
        await until(
            lambda: condition(kubelet, "PodResizeInProgress").get("reason") == "Error", "it says"
        )
        assert condition(kubelet, "PodResizeInProgress")["message"] == "no such knob"
        assert given(kubelet)["cpu"] == "500m"
        del kubelet.runtime.fail["update_container_resources"]
        await until(lambda: given(kubelet)["cpu"] == "1", "it is done")


async def test_a_restarted_agent_goes_on_with_a_resize(store: Store, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    async with Kubelet(store, runtime, tmp_path) as first:
        await start(first, asking())
        await until(lambda: given(first), "it is reported")
    second = Kubelet(store, runtime, tmp_path)
    await second.apply(asking("1"))
    async with second:
        second.tools.facts.allocatable = NODE
        await until(lambda: given(second)["cpu"] == "1", "it is resized")
        assert runtime.calls["update_container_resources"] == 1
        assert len(runtime.containers) == 1


# the pod's own resources


def sharing(memory: str, cpu: str = "1", **main: Any) -> dict[str, Any]:
    """A pod with resources of its own, and two containers: one with a limit, one without."""
    own = {"requests": {"cpu": "100m"}, "limits": {"cpu": "100m", "memory": "16Mi"}}
    wanted = pod(spec("bounded", resources=own), spec("free", **main))
    amounts = {"cpu": cpu, "memory": memory}
    wanted["spec"]["resources"] = {"requests": amounts, "limits": amounts}
    return wanted


def test_the_pods_own_limits_concern_the_containers_without_any() -> None:
    before, after = sharing("64Mi"), sharing("128Mi")
    bounded, free = after["spec"]["containers"]
    assert not resizing.needs_update(before, after, bounded, bounded)
    assert resizing.needs_update(before, after, free, free)
    assert not resizing.needs_update(before, before, free, free)


def test_the_pods_own_resources_are_restored_from_its_report() -> None:
    wanted, given_before = sharing("128Mi"), sharing("64Mi")["spec"]["resources"]
    status = {"resources": given_before, "containerStatuses": []}
    assert resources.reported_differ(wanted, status)
    assert allocated_before(wanted, status)["spec"]["resources"] == given_before
    assert not resources.reported_differ(
        wanted, status | {"resources": wanted["spec"]["resources"]}
    )
    back = resizing.with_resources(wanted, sharing("64Mi"))
    assert back["spec"]["resources"] == given_before


async def test_a_pods_own_limits_change_in_place(kubelet: Kubelet) -> None:
    async with kubelet:
        await start(kubelet, sharing("64Mi"))
        await until(lambda: "resources" in kubelet.status("web"), "they are reported")
        await kubelet.apply(sharing("128Mi"))
        wanted = sharing("128Mi")["spec"]["resources"]
        await until(lambda: kubelet.status("web")["resources"] == wanted, "they are new")
        assert kubelet.status("web")["allocatedResources"] == wanted["requests"]
        names = {one.name: one.id for one in kubelet.runtime.containers.values()}
        given_to = kubelet.runtime.configs[names["free"]]["resources"]
        assert given_to["memory_limit_in_bytes"] == 128 << 20
        assert kubelet.runtime.calls["update_container_resources"] == 1
        assert [one["restartCount"] for one in kubelet.status("web")["containerStatuses"]] == [0, 0]
        await kubelet.apply(sharing("2Gi"))
        await until(lambda: condition(kubelet, "PodResizePending"), "it is refused")
        assert condition(kubelet, "PodResizePending")["reason"] == "Infeasible"
        assert kubelet.status("web")["resources"] == wanted


async def test_a_restarted_agent_goes_on_with_a_resize_of_the_pod(
    store: Store, tmp_path: Path
) -> None:
    runtime = FakeRuntime()
    async with Kubelet(store, runtime, tmp_path) as first:
        await start(first, sharing("64Mi"))
        await until(lambda: "resources" in first.status("web"), "they are reported")
    second = Kubelet(store, runtime, tmp_path)
    await second.apply(sharing("128Mi"))
    wanted = sharing("128Mi")["spec"]["resources"]
    async with second:
        second.tools.facts.allocatable = NODE
        await until(lambda: second.status("web")["resources"] == wanted, "it is resized")
        assert runtime.calls["update_container_resources"] == 1
