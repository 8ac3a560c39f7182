# SPDX-License-Identifier: Apache-2.0
"""How many pods a budget lets go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.cluster.controllers.disruption import plan
from kedge.cluster.machinery.times import text_of
from tests.fakes import objects

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("spec", "present", "expected", "wanted"),
    [
        ({"minAvailable": 2}, 3, 0, (3, 2)),
        ({"minAvailable": "50%"}, 1, 3, (3, 2)),
        ({"maxUnavailable": 1}, 1, 3, (3, 2)),
        ({"maxUnavailable": "30%"}, 3, 10, (10, 7)),
        ({"maxUnavailable": "25%"}, 3, 3, (3, 2)),
        ({"maxUnavailable": 9}, 3, 3, (3, 0)),
        ({}, 3, 3, (0, 0)),
    ],
)
def test_amounts_are_of_what_owners_want(
    spec: dict[str, Any], present: int, expected: int, wanted: tuple[int, int]
):
    assert plan.wanted(spec, present, expected) == wanted


@given(st.integers(0, 100), st.integers(0, 10_000))
def test_parts_are_rounded_up(percent: int, total: int):
    found = plan.scaled(f"{percent}%", total)
    assert (found - 1) * 100 < percent * total <= found * 100


def test_pods_that_were_let_go_count_until_they_are_overdue():
    pods = [objects.pod(name, ready=True) for name in ("kept", "fresh", "late")]
    pods.append(objects.pod("going", ready=True, deleted=True))
    before = {
        name: text_of(NOW - age) for name, age in (("fresh", 20), ("late", 121), ("going", 5))
    }
    before["gone"] = text_of(NOW - 1)
    found = plan.disrupted(pods, before, NOW)
    assert (set(found.pods), found.overdue, found.next_seconds) == ({"fresh"}, ("late",), 100.0)
    assert plan.healthy(pods, found.pods) == 2


@pytest.mark.parametrize(
    ("counts", "allowed", "reason"),
    [
        ((3, 2, 3), 1, "SufficientPods"),
        ((2, 2, 3), 0, "InsufficientPods"),
        ((1, 2, 3), 0, "InsufficientPods"),
        ((3, 2, 0), 0, "InsufficientPods"),
    ],
)
def test_what_is_over_is_allowed(counts: tuple[int, int, int], allowed: int, reason: str):
    status = plan.status_of({"metadata": {"generation": 4}}, counts, {}, NOW)
    (condition,) = status["conditions"]
    assert (status["disruptionsAllowed"], condition["reason"]) == (allowed, reason)
    assert (status["observedGeneration"], condition["observedGeneration"]) == (4, 4)


def test_a_condition_keeps_its_time_while_its_status_stays():
    budget: dict[str, Any] = {"metadata": {"generation": 1}}
    budget["status"] = plan.status_of(budget, (1, 2, 3), {}, NOW)
    later = plan.status_of(budget, (2, 2, 3), {}, NOW + 60)
    assert later["conditions"] == budget["status"]["conditions"]
    moved = plan.status_of(budget, (3, 2, 3), {}, NOW + 60)
    assert moved["conditions"][0]["lastTransitionTime"] == text_of(NOW + 60)


def test_who_cannot_count_allows_nothing():
    budget = {
        "metadata": {"generation": 1},
        "status": plan.status_of({"metadata": {"generation": 1}}, (3, 1, 3), {}, NOW),
    }
    status = plan.failed(budget, "why", NOW)
    (condition,) = status["conditions"]
    assert (status["disruptionsAllowed"], condition["reason"]) == (0, "SyncFailed")
    assert condition["message"] == "why"
