# SPDX-License-Identifier: Apache-2.0
"""The kubelet from the store to a runtime and back, with the runtime in memory."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.actions import volumes
from kedge.edge.runtime import ExecResult
from kedge.edge.runtime.fake import FakeRuntime
from kedge.store import Store, put
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    from pathlib import Path


def numbered(count: int) -> list[dict[str, Any]]:
    return [pod(uid=f"u{number}", name=f"web-{number}") for number in range(count)]


def config_map(**data: str) -> dict[str, Any]:
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default"},
        "data": data,
    }


def deleted(one: dict[str, Any], grace: int = 1) -> dict[str, Any]:
    metadata = one["metadata"] | {
        "deletionTimestamp": "2027-01-15T08:00:30Z",
        "deletionGracePeriodSeconds": grace,
    }
    return one | {"metadata": metadata}


async def test_a_pod_in_the_store_becomes_ready_in_one_report(
    kubelet: Kubelet, store: Store
) -> None:
    async with kubelet:
        watch = store.watch([("", "pods/status")])
        await kubelet.apply(pod())
        first = [event async for batch in take(watch, 1) for event in batch]
        status = json.loads(first[0].value)["status"]
        assert status["phase"] == "Running"
        assert status["podIP"].startswith("10.1.")
        assert status["containerStatuses"][0]["ready"]
        assert status["containerStatuses"][0]["containerID"].startswith("fake://container-")
        watch.close()


async def take(watch: Any, count: int) -> Any:
    async for batch in watch:
        yield batch
        count -= 1
        if count == 0:
            return


async def test_a_restarted_agent_adopts_what_runs_and_writes_nothing(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    async with kubelet:
        await kubelet.apply(*numbered(5))
        await until(
            lambda: all(kubelet.is_ready(f"web-{one}") for one in range(5)), "five pods are ready"
        )
    before = {
        name: runtime.calls[name]
        for name in ("run_sandbox", "create_container", "stop_container", "remove_sandbox")
    }
    reports = {item.key: item.revision for item in store.list("", "pods/status").items}
    async with kubelet:
        await until(lambda: len(kubelet.pods.workers()) == 5, "the pods are adopted")
        await asyncio.sleep(0.1)
        assert {name: runtime.calls[name] for name in before} == before
        assert {item.key: item.revision for item in store.list("", "pods/status").items} == reports


async def test_an_emptied_runtime_gets_every_pod_back_and_restarts_are_counted_on(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(*numbered(20))
        await until(
            lambda: all(kubelet.is_ready(f"web-{one}") for one in range(20)),
            "twenty pods are ready",
        )
    runtime.lose_everything()
    async with kubelet:
        await until(
            lambda: (
                len(runtime.containers) == 20
                and all(restarts(kubelet, f"web-{one}") == 1 for one in range(20))
            ),
            "all are back",
        )
        last = kubelet.status("web-0")["containerStatuses"][0]["lastState"]["terminated"]
        assert last["reason"] == "ContainerStatusUnknown"


def restarts(kubelet: Kubelet, name: str) -> int:
    statuses = kubelet.status(name).get("containerStatuses")
    return int(statuses[0]["restartCount"]) if statuses and kubelet.is_ready(name) else -1


async def test_a_runtime_emptied_under_a_running_agent_gets_every_pod_back(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(*numbered(3))
        await until(lambda: all(kubelet.is_ready(f"web-{one}") for one in range(3)))
        runtime.lose_everything()
        runtime._changed.put_nowait("all")
        await until(
            lambda: all(restarts(kubelet, f"web-{one}") == 1 for one in range(3)), "all are back"
        )


async def test_a_deleted_pod_is_stopped_removed_and_reported(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(pod(), grace=7))
        await until(lambda: kubelet.is_reported_deleted("web"), "the deletion is reported")
        assert runtime.grace_used == [7]
        assert not runtime.sandboxes
        assert kubelet.volumes.removed == ["u1"]
        assert kubelet.status("web")["phase"] == "Succeeded"
        await kubelet.delete(pod())
        await until(lambda: not kubelet.pods.workers(), "the worker ends")
        await until(lambda: not kubelet.status("web"), "the status is taken back")


async def test_a_pod_deleted_while_the_agent_was_away_goes(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(*numbered(2))
        await until(lambda: kubelet.is_ready("web-0") and kubelet.is_ready("web-1"))
    await kubelet.delete(numbered(2)[0])
    async with kubelet:
        await until(lambda: len(runtime.sandboxes) == 1, "the orphan is removed")
        await until(lambda: not kubelet.status("web-0"), "its report is taken back")
        assert kubelet.is_ready("web-1")


async def test_an_orphan_has_the_grace_that_its_pod_had(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(pod(terminationGracePeriodSeconds=3))
        await until(lambda: kubelet.is_ready("web"))
    await kubelet.delete(pod())
    async with kubelet:
        await until(lambda: not runtime.sandboxes)
    assert runtime.grace_used == [3]


async def test_orphans_stay_while_the_store_may_lack_their_pods(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store, tmp_path: Path
) -> None:
    async with kubelet:
        await kubelet.apply(*numbered(2))
        await until(lambda: kubelet.is_ready("web-0") and kubelet.is_ready("web-1"))
    ids = set(runtime.containers)
    empty = Store.open(tmp_path / "other", mode="replica", durable=False)
    again = Kubelet(empty, runtime, tmp_path, complete=False)
    async with again:
        await asyncio.sleep(0.1)
        assert set(runtime.containers) == ids
        await again.apply(numbered(2)[0])
        await until(lambda: again.is_ready("web-0"), "the refilled pod is adopted")
        again.pods.store_is_complete()
        await until(lambda: len(runtime.sandboxes) == 1, "now the other one is an orphan")
        assert set(runtime.containers) < ids
    empty.close()


async def test_a_sandbox_of_somebody_else_is_left_alone(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    config = {
        "metadata": {"attempt": 0},
        "labels": {"io.kubernetes.pod.uid": "x"},
        "annotations": {},
    }
    await runtime.run_sandbox(config)
    async with kubelet:
        await asyncio.sleep(0.1)
        assert len(runtime.sandboxes) == 1


async def test_a_crashing_container_backs_off(kubelet: Kubelet, runtime: FakeRuntime) -> None:
    runtime.exits["main"] = [1, 1]
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: waiting(kubelet) == "CrashLoopBackOff", "the back-off is reported")
        assert kubelet.status("web")["containerStatuses"][0]["restartCount"] == 1
        assert (
            "BackOff",
            "Back-off restarting failed container main in pod web_default(u1)",
        ) in await kubelet.events()


def waiting(kubelet: Kubelet, name: str = "web") -> str:
    statuses = kubelet.status(name).get("containerStatuses")
    return str((statuses[0]["state"].get("waiting") or {}).get("reason", "")) if statuses else ""


async def test_a_missing_image_is_pulled_once_for_many_pods(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.missing_images.add("busybox:1")
    runtime.delays["pull_image"] = 0.05
    async with kubelet:
        await kubelet.apply(*numbered(10))
        await until(lambda: all(kubelet.is_ready(f"web-{one}") for one in range(10)))
        assert runtime.calls["pull_image"] == 1


@pytest.mark.parametrize(
    ("policy", "reason"), [("Never", "ErrImageNeverPull"), ("IfNotPresent", "ErrImagePull")]
)
async def test_an_image_that_cannot_be_had_is_said(
    policy: str, reason: str, kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.missing_images.add("busybox:1")
    runtime.unpullable.add("busybox:1")
    async with kubelet:
        await kubelet.apply(pod(spec(imagePullPolicy=policy)))
        await until(lambda: waiting(kubelet) == reason)
        assert kubelet.status("web")["phase"] == "Pending"


async def test_a_pod_is_deleted_in_the_middle_of_a_pull(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.missing_images.add("busybox:1")
    runtime.delays["pull_image"] = 60
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: runtime.calls["pull_image"] == 1)
        await kubelet.apply(deleted(pod()))
        await until(lambda: kubelet.is_reported_deleted("web"))


async def test_a_forced_deletion_shortens_a_running_stop(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.delays["stop_container"] = 0.3
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(deleted(pod(), grace=30))
        await until(lambda: runtime.grace_used == [30])
        await kubelet.apply(deleted(pod(), grace=0))
        await until(lambda: runtime.grace_used == [30, 0])
        await until(lambda: kubelet.is_reported_deleted("web"))


async def test_a_variable_waits_for_its_config_map_and_starts_when_it_comes(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    reference = {"configMapKeyRef": {"name": "settings", "key": "mode"}}
    async with kubelet:
        await kubelet.apply(pod(spec(env=[{"name": "MODE", "valueFrom": reference}])))
        await until(lambda: waiting(kubelet) == "CreateContainerConfigError")
        assert 'configmap "settings" not found' in str(kubelet.status("web"))
        await kubelet.apply(config_map(mode="fast"))
        await until(lambda: kubelet.is_ready("web"))
        assert {"key": "MODE", "value": "fast"} in runtime.configs[next(iter(runtime.containers))][
            "envs"
        ]


async def test_a_volume_waits_for_its_config_map_and_is_refreshed_when_it_changes(
    kubelet: Kubelet, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "QUIET_SECONDS", -1.0)
    volume = {"name": "settings", "configMap": {"name": "settings"}}
    desired = pod(
        spec(volumeMounts=[{"name": "settings", "mountPath": "/etc/settings"}]), volumes=[volume]
    )
    async with kubelet:
        await kubelet.apply(desired)
        await until(lambda: bool(kubelet.recorder._new))
        assert (
            "FailedMount",
            'configmap "settings" not found',
        ) in await kubelet.events()
        await kubelet.apply(config_map(mode="fast"))
        await until(lambda: kubelet.is_ready("web"))
        created = runtime.calls["create_container"]
        await kubelet.apply(config_map(mode="slow"))
        await until(lambda: kubelet.volumes.refreshed == ["u1"])
        assert runtime.calls["create_container"] == created


async def test_a_changed_image_restarts_the_container_exactly_once(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(pod(spec(image="busybox:2")))
        await until(lambda: restarts(kubelet, "web") == 1)
        await asyncio.sleep(0.05)
        assert runtime.calls["create_container"] == 2
        assert runtime.calls["run_sandbox"] == 1


async def test_a_dead_sandbox_is_replaced(kubelet: Kubelet, runtime: FakeRuntime) -> None:
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: kubelet.is_ready("web"))
        runtime.end_sandbox(next(iter(runtime.sandboxes)))
        await until(lambda: restarts(kubelet, "web") == 1, "it is back")
        assert len(runtime.sandboxes) == 1


async def test_readiness_follows_its_probe(kubelet: Kubelet, runtime: FakeRuntime) -> None:
    runtime.exec_results["main"] = ExecResult(1, b"not yet")
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 0.02, "failureThreshold": 1}
    async with kubelet:
        await kubelet.apply(pod(spec(readinessProbe=probe)))
        await until(lambda: runtime.calls["exec_sync"] > 1)
        assert not kubelet.is_ready("web")
        assert ("Unhealthy", "Readiness probe failed: not yet") in await kubelet.events()
        runtime.exec_results["main"] = ExecResult(0)
        await until(lambda: kubelet.is_ready("web"))
        runtime.exec_results["main"] = ExecResult(1)
        await until(lambda: not kubelet.is_ready("web"))


async def test_a_container_that_fails_its_liveness_probe_is_restarted(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.exec_results["main"] = ExecResult(1)
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 0.02, "failureThreshold": 2}
    async with kubelet:
        await kubelet.apply(pod(spec(livenessProbe=probe)))
        await until(lambda: runtime.calls["create_container"] == 2)
        assert (
            "Killing",
            "Container main failed liveness probe, will be restarted",
        ) in await kubelet.events()


async def test_a_finished_pod_keeps_its_end_and_stops_its_sandbox(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.exits["main"] = [0]
    async with kubelet:
        await kubelet.apply(pod(restartPolicy="Never"))
        await until(lambda: kubelet.status("web").get("phase") == "Succeeded")
        await until(lambda: not next(iter(runtime.sandboxes.values())).ready)
        assert runtime.calls["create_container"] == 1
    runtime.lose_everything()
    async with kubelet:
        await asyncio.sleep(0.1)
        assert not runtime.sandboxes
        assert kubelet.status("web")["phase"] == "Succeeded"


async def test_a_pod_of_the_same_name_starts_while_the_old_one_ends(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.delays["stop_container"] = 0.2
    async with kubelet:
        await kubelet.apply(pod(uid="old"))
        await until(lambda: kubelet.is_ready("web"))
        await kubelet.apply(pod(uid="new"))
        await until(lambda: len(runtime.sandboxes) == 2)
        await until(
            lambda: len(runtime.sandboxes) == 1 and len(kubelet.pods.workers()) == 1,
            "the old one is gone",
        )
        assert kubelet.is_ready("web")


async def test_an_expired_token_is_kept_used_and_marked(kubelet: Kubelet, store: Store) -> None:
    volume = {
        "name": "token",
        "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]},
    }
    token = {
        "metadata": {"name": "web.1", "namespace": "default"},
        "spec": {"podUID": "u1"},
        "status": {"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"},
    }
    key = ObjectKey("kedge.io", "serviceaccounttokens", "default", "web.1")
    async with kubelet:
        await store.commit([put(key, json.dumps(token).encode())])
        await kubelet.apply(pod(volumes=[volume]))
        await until(lambda: kubelet.is_ready("web"))
        marked = {one["type"]: one["status"] for one in kubelet.status("web")["conditions"]}
        assert marked["kedge.io/ServiceAccountTokenExpired"] == "True"
        token["status"] = {"token": "t2", "expirationTimestamp": "2099-01-01T00:00:00Z"}
        await store.commit([put(key, json.dumps(token).encode())])
        await until(
            lambda: (
                {"kedge.io/ServiceAccountTokenExpired": "False"}.items()
                <= {
                    one["type"]: one["status"] for one in kubelet.status("web")["conditions"]
                }.items()
            )
        )


async def test_a_runtime_that_is_away_at_start_is_awaited(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.fail["list_sandboxes"] = "connection refused"
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: bool(kubelet.pods.runtime_error))
        del runtime.fail["list_sandboxes"]
        await until(lambda: kubelet.is_ready("web"))


async def test_a_sandbox_that_cannot_be_made_is_tried_again(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    runtime.fail["run_sandbox"] = "no address left"
    async with kubelet:
        await kubelet.apply(pod())
        await until(lambda: runtime.calls["run_sandbox"] == 1)
        del runtime.fail["run_sandbox"]
        await until(lambda: kubelet.is_ready("web"))
        assert (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: no address left",
        ) in await kubelet.events()
