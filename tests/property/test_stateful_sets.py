# SPDX-License-Identifier: Apache-2.0
"""A StatefulSet's plan against a model of pods that start, become ready, fail and are lost at random."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kedge.cluster.controllers.stateful_sets.model import StatefulSet
from kedge.cluster.controllers.stateful_sets.plan import (
    Create,
    Delete,
    Member,
    Planner,
    Revisions,
)
from kedge.cluster.controllers.stateful_sets.status import status_of
from kedge.cluster.machinery.records import Pod
from kedge.cluster.machinery.revisions import POD_LABEL
from tests.fakes import objects

SETTINGS = st.fixed_dictionaries(
    {
        "replicas": st.integers(0, 5),
        "start": st.integers(0, 2),
        "is_ordered": st.booleans(),
        "partition": st.integers(0, 3),
        "max_unavailable": st.integers(1, 3),
    }
)
ACTIONS = st.sampled_from(
    ["look", "look", "look", "ready", "ready", "fail", "unready", "lose", "end", "template"]
)
TURNS = st.lists(st.tuples(ACTIONS, st.integers(0, 7)), max_size=60)
SCALES = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 5)), max_size=3)


class World:
    def __init__(self, **settings: int) -> None:
        body = {
            "metadata": {"name": "web", "namespace": "d", "uid": "s"},
            "spec": {"updateStrategy": {"rollingUpdate": {}}},
        }
        self.set: StatefulSet = replace(StatefulSet.of(body), **settings)
        self.current = self.update = 1
        self.pods: dict[int, Pod] = {}
        self.used = itertools.count()

    @property
    def revisions(self) -> Revisions:
        return Revisions(f"r{self.current}", f"r{self.update}")

    def available(self, ordinal: int) -> bool:
        pod = self.pods.get(ordinal)
        return pod is not None and pod.ready and pod.phase == "Running" and not pod.deleted

    def look(self) -> bool:
        """One turn of the controller, checked step by step; whether it did anything."""
        members = [Member(ordinal, pod) for ordinal, pod in self.pods.items()]
        phases = Planner(self.set, self.revisions, 1e9).plan(members)
        wanted = range(self.set.start, self.set.start + self.set.replicas)
        healthy = sum(self.available(ordinal) for ordinal in wanted)
        taken = 0
        for step in itertools.chain(*phases):
            if isinstance(step, Create):
                assert step.ordinal in wanted
                assert step.ordinal not in self.pods, "never two pods of one name"
                if self.set.is_ordered:
                    before = range(self.set.start, step.ordinal)
                    assert all(self.available(each) for each in before)
                labels = {POD_LABEL: step.revision}
                self.pods[step.ordinal] = objects.pod(
                    f"web-{step.ordinal}", phase="Pending", labels=labels
                )
                continue
            assert isinstance(step, Delete)
            ordinal = self.set.ordinal_of(step.pod)
            assert ordinal is not None
            assert not step.pod.deleted
            if ordinal not in wanted:
                if self.set.is_ordered:
                    assert ordinal == max(each for each in self.pods if each not in wanted)
                    assert healthy == len(wanted)
            elif not step.pod.finished:
                assert step.pod.labels[POD_LABEL] != self.revisions.update
                assert ordinal >= self.set.start + self.set.partition
                taken += self.available(ordinal)
            step.pod.deleted = True
        assert taken <= max(self.set.max_unavailable - (len(wanted) - healthy), 0)
        status = status_of(self.set, self.revisions, self.pods.values(), 1e9)
        assert status["readyReplicas"] <= status["replicas"]
        self.current = int(status["currentRevision"].removeprefix("r"))
        return any(phases)

    def happen(self, action: str, choice: int) -> None:
        """Something that is not the controller's doing."""
        if action == "look":
            self.look()
        elif action == "template":
            self.update += 1
        elif self.pods:
            ordinal = sorted(self.pods)[choice % len(self.pods)]
            pod = self.pods[ordinal]
            if action == "ready" and not pod.finished:
                pod.phase, pod.ready = "Running", True
            elif action == "unready":
                pod.ready = False
            elif action == "fail":
                pod.phase, pod.ready = "Failed", False
            elif action == "lose" or (action == "end" and pod.deleted):
                del self.pods[ordinal]

    def settle(self) -> None:
        """Everything starts, and what is deleted goes, until there is nothing to do."""
        for _ in range(200):
            busy = self.look()
            for ordinal, pod in list(self.pods.items()):
                if pod.deleted:
                    del self.pods[ordinal]
                    busy = True
                elif not pod.finished and not pod.ready:
                    pod.phase, pod.ready = "Running", True
                    busy = True
            if not busy:
                return
        raise AssertionError("it never settles")


@given(SETTINGS, TURNS, SCALES)
def test_pods_are_made_taken_and_replaced_in_order_and_in_the_end_as_wanted(
    settings: dict[str, int], turns: list[tuple[str, int]], scales: list[tuple[int, int]]
):
    world = World(**settings)
    sizes = dict(scales)
    for number, (action, choice) in enumerate(turns):
        if number in sizes:
            world.set = replace(world.set, replicas=sizes[number])
        world.happen(action, choice)
    world.settle()
    wanted = range(world.set.start, world.set.start + world.set.replicas)
    assert sorted(world.pods) == list(wanted)
    for ordinal, pod in world.pods.items():
        assert world.available(ordinal)
        if ordinal >= world.set.start + world.set.partition:
            assert pod.labels[POD_LABEL] == f"r{world.update}"
