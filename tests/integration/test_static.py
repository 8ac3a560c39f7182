# SPDX-License-Identifier: Apache-2.0
"""Static pods on a kubelet with a runtime in memory; the test is the cloud that makes mirrors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from kedge import metrics
from kedge.api import static_pods
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.static_pods import static
from kedge.edge.runtime.fake import FakeRuntime
from kedge.store import Store, delete
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    from pathlib import Path

KEY = ObjectKey("", static.STATIC, "default", "web")
MIRROR = ObjectKey("", "pods/mirror", "default", "web")
DELETED = ObjectKey("", "pods/deleted", "default", "web")
STATUS = ObjectKey("", "pods/status", "default", "web")


def made(uid: str, image: str = "busybox:1") -> dict[str, Any]:
    return pod(spec(image=image), uid=uid, metadata={"annotations": {}, "labels": {}})


def mirror(of: str, uid: str, **more: Any) -> dict[str, Any]:
    return pod(uid=uid, metadata={"annotations": {static_pods.MIRROR: of}, **more})


def take(store: Store, key: ObjectKey) -> dict[str, Any] | None:
    """A report, taken as the cloud does."""
    found = store.get(key)
    if found is None:
        return None
    store.commit_now([delete(key)])
    value: dict[str, Any] = json.loads(found.value)
    return value


def shown(store: Store) -> str:
    """The UID of the pod whose status is reported."""
    found = store.get(STATUS)
    return "" if found is None else str(json.loads(found.value)["metadata"]["uid"])


async def taken(store: Store, key: ObjectKey) -> dict[str, Any]:
    await until(lambda: store.get(key) is not None, str(key))
    found = take(store, key)
    assert found is not None
    return found


async def run_mirrored(kubelet: Kubelet, store: Store) -> None:
    """Runs the pod of a file, s1, until it is ready and the API has its mirror, m1."""
    kubelet.pods.set_static({KEY: made("s1")})
    await taken(store, MIRROR)
    await kubelet.apply(mirror("s1", "m1"))
    await until(lambda: kubelet.is_ready("web"))


async def test_a_static_pod_runs_once_and_its_mirror_shows_its_status(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    async with kubelet:
        kubelet.pods.set_static({KEY: made("s1")})
        asked = await taken(store, MIRROR)
        assert asked["metadata"]["annotations"][static_pods.MIRROR] == "s1"
        await until(lambda: len(runtime.containers) == 1)
        assert store.get(STATUS) is None, "nobody would know whose status it is"
        await kubelet.apply(mirror("s1", "m1"))
        await until(lambda: kubelet.is_ready("web"))
        assert shown(store) == "m1"
        await asyncio.sleep(0.05)
        assert len(runtime.sandboxes) == 1, "the mirror is not run"
        found = kubelet.pods.find("default", "web")
        assert found is not None
        assert found.uid == "s1"


async def test_a_deleted_mirror_is_taken_away_and_made_again_while_the_pod_runs_on(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    async with kubelet:
        await run_mirrored(kubelet, store)
        await kubelet.apply(mirror("s1", "m1", deletionTimestamp="2027-01-15T08:00:30Z"))
        assert (await taken(store, DELETED))["metadata"]["uid"] == "m1"
        await kubelet.delete(mirror("s1", "m1"))
        await taken(store, MIRROR)
        await kubelet.apply(mirror("s1", "m2"))
        await until(lambda: shown(store) == "m2")
        assert runtime.calls["create_container"] == 1


async def test_a_changed_file_is_another_pod_after_the_first_has_ended(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    runtime.delays["stop_container"] = 0.1
    async with kubelet:
        await run_mirrored(kubelet, store)
        kubelet.pods.set_static({KEY: made("s2", "busybox:2")})
        assert (await taken(store, DELETED))["metadata"]["uid"] == "m1"
        await asyncio.sleep(0.02)
        assert len(runtime.sandboxes) == 1, "not both at a time"
        await until(lambda: [one.image for one in runtime.containers.values()] == ["busybox:2"])
        await kubelet.delete(mirror("s1", "m1"))
        assert (await taken(store, MIRROR))["metadata"]["annotations"][static_pods.MIRROR] == "s2"


async def test_a_removed_file_ends_its_pod_and_then_its_mirror(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    runtime.delays["stop_container"] = 0.1
    async with kubelet:
        await run_mirrored(kubelet, store)
        kubelet.pods.set_static({})
        await asyncio.sleep(0.05)
        assert store.get(DELETED) is None, "it still runs"
        assert (await taken(store, DELETED))["metadata"]["uid"] == "m1"
        assert not runtime.sandboxes
        assert not store.list("", "pods/static").items


async def test_a_static_pod_outlives_the_agent_and_is_no_orphan_before_its_file_is_read(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    async with kubelet:
        kubelet.pods.set_static({KEY: made("s1")})
        await until(lambda: len(runtime.containers) == 1)
        runtime.end(next(iter(runtime.containers)), 1)
        await until(lambda: len(runtime.containers) == 2)
    kubelet.static = True
    async with kubelet:
        await asyncio.sleep(0.1)
        assert len(runtime.sandboxes) == 1, "it may still be wanted"
        kubelet.pods.set_static({KEY: made("s1")})
        await until(lambda: len(kubelet.pods.workers()) == 1)
        (worker,) = kubelet.pods.workers()
        await until(lambda: worker.status["containerStatuses"][0]["restartCount"] == 1)
        assert runtime.calls["create_container"] == 2


async def test_events_wait_for_the_mirror_and_name_the_static_pod(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    def reasons(resource: str) -> set[str]:
        found = [json.loads(one.value) for one in store.list("", resource).items]
        assert {one["involvedObject"]["uid"] for one in found} <= {"s1"}
        return {one["reason"] for one in found}

    def started() -> int:
        found = [json.loads(one.value) for one in store.list("", "events").items]
        return len([one for one in found if one["reason"] == "Started"])

    async with kubelet:
        kubelet.pods.set_static({KEY: made("s1")})
        await until(lambda: "Started" in reasons("events/held"))
        assert not reasons("events")
    # The agent is started again, and only then the cloud takes the mirror.
    kubelet.static = True
    async with kubelet:
        kubelet.pods.set_static({KEY: made("s1")})
        await until(lambda: len(kubelet.pods.workers()) == 1)
        await kubelet.apply(mirror("s1", "m1"))
        await until(lambda: not reasons("events/held"))
        assert {"Created", "Started"} <= reasons("events")
        runtime.end(next(iter(runtime.containers)), 1)
        await until(lambda: len(runtime.containers) == 2)
        await until(lambda: started() == 2, "what happens now is told at once")
        assert not reasons("events/held")
        # Without a mirror again, and then without the file: nobody can be told.
        await kubelet.delete(mirror("s1", "m1"))
        runtime.end(list(runtime.containers)[-1], 1)
        await until(lambda: bool(reasons("events/held")))
        kubelet.pods.set_static({})
        await until(lambda: not reasons("events/held"))


async def test_a_mirror_without_its_static_pod_is_taken_away(
    kubelet: Kubelet, runtime: FakeRuntime, store: Store
) -> None:
    async with kubelet:
        await kubelet.apply(mirror("s1", "m1"))
        assert (await taken(store, DELETED))["metadata"]["uid"] == "m1"
        assert not runtime.sandboxes


def follow(kubelet: Kubelet, directory: Path) -> tuple[asyncio.Task[None], list[list[str]]]:
    """Follows a directory until cancelled; the names of its pods, each time that they are taken in."""
    seen: list[list[str]] = []
    pods = static.StaticPods(
        str(directory),
        "edge-1",
        kubelet.recorder,
        lambda found: seen.append([one.name for one in found]),
    )
    return asyncio.get_running_loop().create_task(pods.run()), seen


async def test_a_directory_is_followed_and_a_file_that_stays_bad_ends_its_pod(
    kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "LOOK_SECONDS", 0.02)
    directory = tmp_path / "manifests"
    directory.mkdir()
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [spec()]},
    }
    async with kubelet:
        following, seen = follow(kubelet, directory)
        await until(lambda: seen == [[]], "an empty directory has no pods")
        (directory / "a.json").write_text(json.dumps(manifest))
        await until(lambda: seen[-1:] == [["a-edge-1"]])
        (directory / "b.yaml").write_text("kind: [")
        await until(lambda: bool(kubelet.recorder._new))
        await until(lambda: len(seen) > 2)
        assert seen[-1] == ["a-edge-1"]
        events = await kubelet.events()
        assert any(
            reason == "InvalidStaticPod" and "b.yaml: neither YAML" in text
            for reason, text in events
        )
        (directory / "a.json").write_text("{")
        await until(lambda: len(seen) > 3)
        assert seen[-1] == ["a-edge-1"], "it may be half written: what it said before goes on"
        assert metrics.read("kedge_static_pod_files_invalid") == 2
        (directory / "a.json").write_text(json.dumps(manifest))
        await until(lambda: metrics.read("kedge_static_pod_files_invalid") == 1)
        monkeypatch.setattr(static, "PATIENCE_SECONDS", 0.2)
        (directory / "a.json").write_text("{")
        await until(lambda: seen[-1] == [], "it stayed bad, its pod ends")
        events = await kubelet.events()
        assert any(
            "a.json: cannot be used for 0.2 s now, pod a-edge-1 ends" in m for _, m in events
        )
        (directory / "a.json").write_text(json.dumps(manifest))
        await until(lambda: seen[-1] == ["a-edge-1"], "it is right again")
        (directory / "a.json").unlink()
        await until(lambda: seen[-1] == [])
        following.cancel()


async def test_only_an_absent_directory_ends_its_pods(
    kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "LOOK_SECONDS", 0.02)
    directory = tmp_path / "manifests"
    directory.mkdir()
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    (directory / "a.json").write_text(json.dumps(body | {"spec": {"containers": [spec()]}}))
    (directory / "b.yaml").symlink_to(tmp_path / "nowhere")
    looks = []

    def fails(path: str) -> Any:
        looks.append(path)
        raise OSError(errno.EIO, "Input/output error")

    async with kubelet:
        following, seen = follow(kubelet, directory)
        await until(lambda: seen == [["a-edge-1"]], "a link that leads nowhere is only a bad file")
        with monkeypatch.context() as broken:
            broken.setattr(os, "scandir", fails)
            await until(lambda: len(looks) > 3)
        assert seen == [["a-edge-1"]]
        directory.rename(tmp_path / "away")
        await until(lambda: seen[-1] == [])
        events = [text for reason, text in await kubelet.events() if reason == "InvalidStaticPod"]
        assert [one for one in events if "b.yaml: " in one]
        assert [one for one in events if one.startswith("staticPodPath cannot be read: ")]
        assert [one for one in events if one == f"staticPodPath is not there: {directory}"]
        following.cancel()
