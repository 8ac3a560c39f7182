# SPDX-License-Identifier: Apache-2.0
"""A rolling update against a model of pods that start, become ready, and fail at random."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kedge.cluster.controllers.deployments.rollout import decide


class World:
    """ReplicaSets with pods, whose status may lag behind as the real controller's does."""

    def __init__(self, replicas: int, surge: int, unavailable: int) -> None:
        self.surge, self.unavailable = surge, unavailable
        self.deployment: dict[str, Any] = {
            "metadata": {
                "name": "web",
                "namespace": "d",
                "uid": "d",
                "generation": 1,
                "annotations": {},
            },
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"image": 0}},
            },
        }
        self.sets: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, list[bool]] = {}

    @property
    def replicas(self) -> int:
        return self.deployment["spec"]["replicas"]

    def look(self) -> bool:
        """One turn of the Deployment controller; tells whether it did anything."""
        views = [json.loads(json.dumps(each)) for each in self.sets.values()]
        decision = decide(self.deployment, views, old_pods=False, now=0.0)
        self.deployment["status"] = decision.status
        if decision.revision:
            self.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = (
                decision.revision
            )
        if decision.create is not None:
            created = decision.create
            name = created["metadata"]["name"]
            created["metadata"].update(
                uid=name, creationTimestamp=f"2026-01-01T00:00:{len(self.sets):02d}Z"
            )
            self.sets[name], self.pods[name] = created, []
        for target, patch in decision.annotate:
            annotations = self.sets[target.name]["metadata"]["annotations"]
            annotations.update((patch.get("metadata") or {}).get("annotations") or {})
        for step in decision.scale:
            self.sets[step.replica_set.name]["spec"]["replicas"] = step.replicas
            annotations = self.sets[step.replica_set.name]["metadata"]["annotations"]
            annotations["deployment.kubernetes.io/desired-replicas"] = str(self.replicas)
            annotations["deployment.kubernetes.io/max-replicas"] = str(self.replicas + self.surge)
        return bool(decision.create or decision.scale)

    def fill(self, name: str, *, reports: bool = True) -> None:
        """One turn of the ReplicaSet controller: unready pods go first."""
        wanted, pods = self.sets[name]["spec"]["replicas"], self.pods[name]
        pods.sort(reverse=True)
        self.pods[name] = pods[:wanted] + [False] * (wanted - len(pods))
        if reports:
            self.report(name)

    def report(self, name: str) -> None:
        pods = self.pods[name]
        ready = sum(pods)
        self.sets[name]["status"] = {
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }

    def settle(self) -> None:
        for _ in range(200):
            busy = self.look()
            for name in self.sets:
                self.fill(name)
                self.pods[name] = [True] * len(self.pods[name])
                self.report(name)
            if not busy and not self.look():
                return
        raise AssertionError("the rollout did not end")

    def available(self) -> int:
        return sum(map(sum, self.pods.values()))

    def wanted(self) -> int:
        return sum(each["spec"]["replicas"] for each in self.sets.values())


@given(
    replicas=st.integers(1, 12),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["look", "fill", "ready"]), st.integers(0, 9)), max_size=120
    ),
    images=st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_a_rollout_keeps_both_bounds_and_ends(replicas, surge, unavailable, steps, images):
    world = World(replicas, surge, unavailable)
    world.settle()
    assert world.available() == replicas
    allowed = max(unavailable, 1) if surge == 0 else unavailable
    chunk = max(math.ceil(len(steps) / len(images)), 1)
    for number, image in enumerate(images):
        world.deployment["spec"]["template"]["spec"] = {"image": image}
        for action, which in steps[number * chunk : (number + 1) * chunk]:
            name = sorted(world.sets)[which % len(world.sets)]
            if action == "look":
                world.look()
            elif action == "fill":
                world.fill(name)
            else:
                pods = world.pods[name]
                if False in pods:
                    pods[pods.index(False)] = True
                    world.report(name)
            assert world.available() >= replicas - allowed
            assert world.wanted() <= replicas + surge
    world.settle()
    assert world.available() == replicas
    new = [each for each in world.sets.values() if each["spec"]["replicas"]]
    assert [each["spec"]["template"]["spec"]["image"] for each in new] == [images[-1]]


@given(
    replicas=st.integers(1, 12),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["look", "fill", "ready", "report"]), st.integers(0, 9)),
        max_size=120,
    ),
)
def test_the_bounds_hold_also_when_what_is_reported_lags(replicas, surge, unavailable, steps):
    world = World(replicas, surge, unavailable)
    world.settle()
    world.deployment["spec"]["template"]["spec"] = {"image": 1}
    allowed = max(unavailable, 1) if surge == 0 else unavailable
    for action, which in steps:
        name = sorted(world.sets)[which % len(world.sets)]
        if action == "look":
            world.look()
        elif action == "fill":
            world.fill(name, reports=False)
        elif action == "report":
            world.report(name)
        elif False in world.pods[name]:
            world.pods[name][world.pods[name].index(False)] = True
        assert world.available() >= replicas - allowed
        assert world.wanted() <= replicas + surge


@given(replicas=st.integers(0, 10), later=st.integers(0, 20), turns=st.integers(0, 6))
def test_scaling_in_the_middle_ends_with_the_size_asked_for(replicas, later, turns):
    world = World(replicas, 2, 1)
    world.settle()
    world.deployment["spec"]["template"]["spec"] = {"image": 1}
    for _ in range(turns):
        world.look()
        for name in world.sets:
            world.fill(name)
    world.deployment["spec"]["replicas"] = later
    world.settle()
    assert world.wanted() == later
