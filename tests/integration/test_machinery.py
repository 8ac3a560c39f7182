# SPDX-License-Identifier: Apache-2.0
"""The informer, reconcilers and the event recorder over a real store."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.registry import Registry
from kedge.cluster.machinery import events
from kedge.cluster.machinery.client import Client
from kedge.cluster.machinery.events import BURST, Recorder, Reference
from kedge.cluster.machinery.informer import Informer
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.errors import Conflict
from kedge.store import Store, delete, put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def pod_key(name: str) -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def pod(name: str, uid: str = "", **spec: Any) -> bytes:
    metadata = {"name": name, "namespace": "default", "uid": uid or name}
    return json.dumps(
        {"kind": "Pod", "metadata": metadata, "spec": {"containers": [], **spec}}
    ).encode()


class Rig:
    def __init__(self, store: Store, group: asyncio.TaskGroup) -> None:
        self.store, self.group = store, group
        self.informer = Informer(store)
        self.client = Client(Registry(store), self.informer)
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task = self.group.create_task(coroutine)
        self.tasks.append(task)
        return task


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    store = Store.open(tmp_path / "store", mode="primary", durable=False, history=50)
    namespace = ObjectKey("", "namespaces", "", "default")
    store.commit_now([put(namespace, b'{"kind":"Namespace","metadata":{"name":"default"}}')])
    async with asyncio.TaskGroup() as group:
        made = Rig(store, group)
        made.spawn(store.run())
        yield made
        for task in made.tasks:
            task.cancel()
    store.close()


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def test_what_was_there_and_what_comes_are_both_seen_once(rig: Rig):
    rig.store.commit_now([put(pod_key(f"p{number}"), pod(f"p{number}")) for number in range(1200)])
    seen: list[str] = []
    rig.informer.pods.watch(lambda old, new: seen.append(new.name if new else ""))
    rig.spawn(rig.informer.run())
    rig.store.commit_now([put(pod_key("late"), pod("late"))])
    await rig.informer.synced()
    rig.store.commit_now([put(pod_key("later"), pod("later")), delete(pod_key("p7"))])
    await until(lambda: rig.informer.pods.get("default", "later"))
    await until(lambda: rig.informer.pods.get("default", "p7") is None)
    assert len(rig.informer.pods) == 1201
    assert sorted(seen) == sorted(["", *(f"p{n}" for n in range(1200)), "late", "later"])


async def test_caught_up_waits_for_every_write_noted(rig: Rig):
    rig.spawn(rig.informer.run())
    await rig.informer.synced()
    rig.store.commit_now([put(pod_key("mine"), pod("mine"))])
    rig.informer.wrote()
    assert rig.informer.pods.get("default", "mine") is None
    await rig.informer.caught_up()
    assert rig.informer.pods.get("default", "mine") is not None
    secret = ObjectKey("", "secrets", "default", "s")
    rig.store.commit_now([put(secret, b'{"metadata":{"name":"s","namespace":"default"}}')])
    rig.informer.wrote()
    await asyncio.wait_for(rig.informer.caught_up(), 5)


async def test_an_informer_that_fell_behind_lists_again(rig: Rig, caplog: pytest.LogCaptureFixture):
    rig.store.commit_now([put(pod_key("gone"), pod("gone")), put(pod_key("stays"), pod("stays"))])
    rig.spawn(rig.informer.run())
    await rig.informer.synced()
    with caplog.at_level(logging.WARNING):
        rig.store.commit_now([delete(pod_key("gone"))])
        for number in range(400):
            rig.store.commit_now([put(pod_key("busy"), pod("busy", priority=number))])
        rig.informer.wrote()
        await asyncio.wait_for(rig.informer.caught_up(), 5)
    assert {each.name for each in rig.informer.pods} == {"stays", "busy"}
    assert "fell behind" in caplog.text


async def test_an_object_that_cannot_be_read_is_left_out_with_a_warning(
    rig: Rig, caplog: pytest.LogCaptureFixture
):
    broken = b'{"metadata":{"name":"broken","namespace":"default"},"spec":{"containers":"none"}}'
    rig.store.commit_now([put(pod_key("broken"), broken), put(pod_key("good"), pod("good"))])
    rig.spawn(rig.informer.run())
    await rig.informer.synced()
    assert {each.name for each in rig.informer.pods} == {"good"}
    assert "cannot be read" in caplog.text


async def test_a_key_that_fails_comes_back_and_others_go_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
):
    rig.spawn(rig.informer.run())
    tries: list[str] = []

    async def handler(key: str) -> float | None:
        tries.append(key)
        if key == "bad" and tries.count("bad") < 3:
            raise ValueError("not yet")
        if key == "raced" and tries.count("raced") < 2:
            raise Conflict("somebody was faster")
        return 0.01 if key == "again" and tries.count("again") < 3 else None

    work = Reconciler("tests", handler, rig.informer)
    for key in ("bad", "good", "again", "raced"):
        work.add(key)
    rig.spawn(work.run())
    await until(
        lambda: (tries.count("bad"), tries.count("again"), tries.count("raced")) == (3, 3, 2)
    )
    assert tries.count("good") == 1
    assert caplog.text.count("reconciling failed") == 2, "a lost race is no news"


POD = Reference("Pod", "v1", "default", "web-0", "uid-0")


def written(rig: Rig) -> list[dict[str, Any]]:
    return [json.loads(each.value) for each in rig.store.list("", "events").items]


async def test_an_event_that_repeats_is_counted_up(rig: Rig):
    recorder = Recorder(rig.client, "tests")
    rig.spawn(recorder.run())
    for _ in range(3):
        recorder.record(POD, events.WARNING, "FailedScheduling", "no room")
    recorder.record(POD, events.NORMAL, "Scheduled", "found room")
    await until(lambda: sorted(each["count"] for each in written(rig)) == [1, 3])
    first = next(each for each in written(rig) if each["count"] == 3)
    assert first["involvedObject"]["uid"] == "uid-0"
    assert first["source"]["component"] == "tests"


async def test_an_event_that_expired_meanwhile_is_written_anew(rig: Rig):
    recorder = Recorder(rig.client, "tests")
    rig.spawn(recorder.run())
    recorder.record(POD, events.NORMAL, "Again", "once")
    await until(lambda: len(written(rig)) == 1)
    rig.store.commit_now([delete(each.key) for each in rig.store.list("", "events").items])
    recorder.record(POD, events.NORMAL, "Again", "once")
    await until(lambda: [each["count"] for each in written(rig)] == [1])


async def test_one_object_cannot_flood_the_events(rig: Rig):
    recorder = Recorder(rig.client, "tests")
    rig.spawn(recorder.run())
    for number in range(BURST + 10):
        recorder.record(POD, events.NORMAL, "Loud", str(number))
    await until(lambda: len(written(rig)) == BURST)
    assert recorder.dropped == 10
    recorder.record(Reference("Pod", "v1", "default", "quiet", "uid-1"), events.NORMAL, "Heard", "")
    await until(lambda: len(written(rig)) == BURST + 1)
