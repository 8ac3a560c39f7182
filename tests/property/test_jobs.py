# SPDX-License-Identifier: Apache-2.0
"""A Job whose pods end as they like, and whose controller dies between any two writes.

Whatever happens, no pod is counted twice or lost, there are never more pods than asked for, and the
Job ends.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api.indexes import Indexes
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.registry import Registry
from kedge.cluster.controllers.jobs.controller import Jobs
from kedge.cluster.machinery.client import Client
from kedge.cluster.machinery.events import Recorder
from kedge.cluster.machinery.informer import Informer
from kedge.cluster.machinery.times import text_of
from kedge.store import Store

JOB = ObjectKey("batch", "jobs", "default", "work")
START = 1_800_000_000.0
TURNS = 200
"""The most that a Job may need to end once its pods all succeed."""


class Died(BaseException):
    """The controller is no more."""


class Mortal(Client):
    """A client that dies before one of its writes."""

    def __init__(self, registry: Registry, informer: Informer) -> None:
        super().__init__(registry, informer)
        self.writes_left = 1 << 30

    def _live(self) -> None:
        if self.writes_left <= 0:
            raise Died
        self.writes_left -= 1

    async def create(self, *arguments: Any, **options: Any) -> Any:
        self._live()
        return await super().create(*arguments, **options)

    async def patch(self, *arguments: Any, **options: Any) -> Any:
        self._live()
        return await super().patch(*arguments, **options)

    async def patch_status(self, *arguments: Any, **options: Any) -> Any:
        self._live()
        return await super().patch_status(*arguments, **options)

    async def delete(self, *arguments: Any, **options: Any) -> Any:
        self._live()
        await super().delete(*arguments, **options)


class World:
    """A store with one Job, its pods' nodes, and controllers that come and go."""

    def __init__(self, store: Store, spec: dict[str, Any]) -> None:
        self.store, self.registry, self.spec = store, Registry(store), spec
        self.now = START
        self.ended: dict[str, str] = {}
        """How each pod ended, by uid."""
        self.indexes: dict[str, int] = {}
        self._informing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        for resource, namespace in (("namespaces", ""), ("serviceaccounts", "default")):
            key = ObjectKey("", resource, namespace, "default")
            await self.registry.create(key, {"metadata": {"name": "default"}})
        await self.registry.create(JOB, {"metadata": {"name": "work"}, "spec": self.spec})
        await self.restart()

    async def restart(self) -> None:
        """Another controller, which knows what is stored and nothing else."""
        await self.stop()
        self.informer = Informer(self.store)
        self._informing = asyncio.ensure_future(self.informer.run())
        self.client = Mortal(self.registry, self.informer)
        recorder = Recorder(self.client, "test")
        self.jobs = Jobs(self.client, self.informer, recorder, lambda: self.now)
        await self.informer.synced()

    async def stop(self) -> None:
        if self._informing is not None:
            self._informing.cancel()
            await asyncio.gather(self._informing, return_exceptions=True)

    async def turn(self, writes: int | None = None) -> None:
        """One look of the controller, which dies after some writes if it is told to."""
        self.informer.wrote()
        await self.informer.caught_up()
        if writes is None:
            await self.jobs.reconcile(("default", "work"))
        else:
            self.client.writes_left = writes
            try:
                await self.jobs.reconcile(("default", "work"))
            except* Died:
                pass
            await self.restart()
        for pod in self.pods():
            if not pod["spec"].get("nodeName"):
                await self.registry.bind("default", pod["metadata"]["name"], "node")
        self.check()

    def job(self) -> dict[str, Any]:
        return self.registry.get(JOB)

    def pods(self) -> list[dict[str, Any]]:
        return sorted(
            self.registry.list("", "pods", namespace="default"),
            key=lambda pod: pod["metadata"]["name"],
        )

    def running(self) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.pods()
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def note(self, pod: dict[str, Any], phase: str) -> None:
        """Remembers how a pod ended."""
        metadata = pod["metadata"]
        self.ended[metadata["uid"]] = phase
        index = metadata.get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
        self.indexes[metadata["uid"]] = int(index) if index is not None else -1

    async def end(self, pod: dict[str, Any], phase: str) -> None:
        """A pod's containers end."""
        metadata = pod["metadata"]
        self.note(pod, phase)
        code = 0 if phase == "Succeeded" else 1
        state = {"terminated": {"exitCode": code, "finishedAt": text_of(self.now)}}
        status = {"phase": phase, "containerStatuses": [{"name": "c", "state": state}]}
        key = ObjectKey("", "pods", "default", metadata["name"])
        await self.registry.patch(key, {"status": status}, subresource="status")

    async def reap(self) -> None:
        """Nodes confirm what is deleted; their pods fail, as they were stopped."""
        for pod in self.pods():
            if "deletionTimestamp" not in pod["metadata"]:
                continue
            if pod["status"].get("phase") not in ("Succeeded", "Failed"):
                await self.end(pod, "Failed")
            key = ObjectKey("", "pods", "default", pod["metadata"]["name"])
            await self.registry.delete(key, {"gracePeriodSeconds": 0})

    def finished(self) -> bool:
        kinds = [
            each["type"]
            for each in self.job().get("status", {}).get("conditions", [])
            if each["status"] == "True"
        ]
        return "Complete" in kinds or "Failed" in kinds

    def check(self) -> None:
        """What always holds."""
        running = len(self.running())
        assert running <= self.spec["parallelism"]
        if self.spec["podReplacementPolicy"] == "Failed":
            going = [
                pod
                for pod in self.pods()
                if "deletionTimestamp" in pod["metadata"]
                and pod["status"].get("phase") not in ("Succeeded", "Failed")
            ]
            assert running + len(going) <= self.spec["parallelism"]
        status = self.job().get("status", {})
        waiting = status.get("uncountedTerminatedPods") or {}
        succeeded = sum(phase == "Succeeded" for phase in self.ended.values())
        counted = status.get("succeeded", 0) + len(waiting.get("succeeded", ()))
        if self.spec.get("completionMode") == "Indexed":
            done = {self.indexes[uid] for uid, how in self.ended.items() if how == "Succeeded"}
            listed = Indexes.read(status.get("completedIndexes", ""), self.spec["completions"])
            assert all(
                index in done for first, last in listed.spans for index in range(first, last + 1)
            )
            assert status.get("succeeded", 0) == len(listed)
        else:
            assert counted <= succeeded
        if not any(each["type"] == "FailureTarget" for each in status.get("conditions", [])):
            failures = status.get("failed", 0) + len(waiting.get("failed", ()))
            assert failures <= sum(how == "Failed" for how in self.ended.values())


def template() -> dict[str, Any]:
    return {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    indexed = draw(st.booleans())
    completions = draw(st.integers(1, 5))
    spec: dict[str, Any] = {
        "template": template(),
        "parallelism": draw(st.integers(1, 4)),
        "completions": completions,
        "backoffLimit": draw(st.sampled_from([0, 2, 100])),
        "podReplacementPolicy": draw(st.sampled_from(["Failed", "TerminatingOrFailed"])),
    }
    if indexed:
        spec["completionMode"] = "Indexed"
        if draw(st.booleans()):
            spec["backoffLimit"] = 100
            spec["backoffLimitPerIndex"] = draw(st.integers(0, 2))
    return spec


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.just(0)),
        st.tuples(st.just("die"), st.integers(0, 9)),
        st.tuples(st.just("die"), st.integers(0, 3)),
        st.tuples(st.just("round"), st.just(0)),
        st.tuples(st.just("succeed"), st.integers(0, 9)),
        st.tuples(st.just("fail"), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("reap"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1, 15, 700])),
    ),
    max_size=30,
)


async def step(world: World, what: str, number: int) -> None:
    running = world.running()
    pod = running[number % len(running)] if running else None
    match what:
        case "turn":
            await world.turn()
        case "die":
            await world.turn(number)
        case "wait":
            world.now += number
        case "round":
            world.now += 700
            await world.turn()
            for each in world.running()[:1]:
                await world.end(each, "Failed")
        case "reap":
            await world.reap()
        case "succeed" | "fail" if pod is not None:
            await world.end(pod, "Succeeded" if what == "succeed" else "Failed")
        case "delete" if pod is not None:
            key = ObjectKey("", "pods", "default", pod["metadata"]["name"])
            await world.registry.delete(key, {"gracePeriodSeconds": 30})
            if world.spec["podReplacementPolicy"] != "Failed":
                world.note(pod, "Failed")


async def live(spec: dict[str, Any], steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory), mode="primary", durable=False)
        pump = asyncio.ensure_future(store.run())
        world = World(store, spec)
        try:
            await world.begin()
            for what, number in steps:
                await step(world, what, number)
            for _ in range(TURNS):
                if world.finished():
                    break
                world.now += 700
                for pod in world.running():
                    await world.end(pod, "Succeeded")
                await world.reap()
                await world.turn()
            assert world.finished()
            check_end(world)
        finally:
            await world.stop()
            pump.cancel()
            store.close()


def check_end(world: World) -> None:
    """All that happened is in the counts, and nothing waits to be counted."""
    status = world.job()["status"]
    assert not any(status["uncountedTerminatedPods"].values())
    assert status.get("active", 0) == status["terminating"] == 0
    assert not any(pod["metadata"].get("finalizers") for pod in world.pods())
    indexed = world.spec.get("completionMode") == "Indexed"
    complete = any(each["type"] == "Complete" for each in status["conditions"])
    if complete and indexed:
        assert status["completedIndexes"] == str(Indexes([(0, world.spec["completions"] - 1)]))
    elif complete:
        assert status["succeeded"] == world.spec["completions"]
        assert status["succeeded"] == sum(how == "Succeeded" for how in world.ended.values())
    limit = world.spec.get("backoffLimitPerIndex")
    if limit is not None:
        failures = Counter(
            world.indexes[uid] for uid, how in world.ended.items() if how == "Failed"
        )
        assert max(failures.values(), default=0) <= limit + 1
    assert status.get("failed", 0) == sum(how == "Failed" for how in world.ended.values())


@pytest.mark.timeout(300)
@given(specs(), STEPS)
def test_every_pod_is_counted_once_whenever_the_controller_dies(
    spec: dict[str, Any], steps: list[tuple[str, int]]
) -> None:
    asyncio.run(live(spec, steps))
