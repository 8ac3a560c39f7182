# SPDX-License-Identifier: Apache-2.0
"""Amounts, times, conditions, tolerations and patches."""

from __future__ import annotations

import json

import pytest

from kedge.cluster.machinery import conditions
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.records import metadata_of, node_of, pod_of
from kedge.cluster.machinery.resources import amounts, units
from kedge.cluster.machinery.selectors import is_empty, labels_match
from kedge.cluster.machinery.times import micro_text_of, seconds_of, text_of
from kedge.cluster.machinery.wire import LabelSelector, Requirement


@pytest.mark.parametrize(
    ("resource", "quantity", "wanted"),
    [
        ("cpu", "1", 1000),
        ("cpu", "250m", 250),
        ("cpu", 2, 2000),
        ("cpu", "0.0001", 1),
        ("memory", "1Gi", 2**30),
        ("memory", "1500M", 1_500_000_000),
        ("memory", "1e3", 1000),
        ("pods", "110", 110),
        ("memory", "nonsense", 0),
    ],
)
def test_quantities_are_counted_in_integers_rounded_up(resource: str, quantity, wanted: int):
    assert units(resource, quantity) == wanted
    assert amounts({resource: quantity}) == {resource: wanted}


def test_times_survive_the_round_trip_and_nonsense_is_the_epoch():
    assert seconds_of(text_of(1_800_000_000)) == 1_800_000_000
    assert seconds_of(micro_text_of(1_800_000_000.25)) == 1_800_000_000.25
    assert seconds_of(None) == seconds_of("yesterday") == 0


def test_a_transition_time_moves_with_the_status_only():
    first = conditions.with_condition([], "A", "True", reason="X", message="", now=10)
    second = conditions.with_condition(first, "A", "True", reason="Y", message="", now=20)
    third = conditions.with_condition(second, "A", "False", reason="Y", message="", now=30)
    times = [conditions.find(each, "A")["lastTransitionTime"] for each in (first, second, third)]
    assert [seconds_of(each) for each in times] == [10, 10, 30]
    assert conditions.without(third, "A") == []


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        (LabelSelector(), True),
        (LabelSelector({"app": "web"}), True),
        (LabelSelector({"app": "db"}), False),
        (LabelSelector({"app": "web"}, (Requirement("tier", "Exists"),)), False),
        (LabelSelector(None, (Requirement("app", "In", ("web", "db")),)), True),
        (LabelSelector(None, (Requirement("tier", "DoesNotExist"),)), True),
        (LabelSelector(None, (Requirement("app", "NotIn", ("web",)),)), False),
    ],
)
def test_selectors_match_labels(selector, matches: bool):
    assert labels_match(selector, {"app": "web"}) is matches


def test_a_selector_that_selects_everything_is_empty():
    assert is_empty(None)
    assert is_empty(LabelSelector({}))
    assert not is_empty(LabelSelector({"app": "web"}))


def test_a_merge_patch_holds_what_changed_and_removes_what_left():
    assert changed_fields({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5}) == {"b": 5, "c": None}
    assert changed_fields({"a": 1}, {"a": 1}) == {}


def test_records_bear_what_is_missing_or_null():
    bare = b'{"metadata":{"name":"x","labels":null,"annotations":null},"spec":{"containers":[]}}'
    assert pod_of(bare, 1).phase == "Pending"
    assert node_of(b'{"metadata":{"name":"n"},"spec":{"taints":null}}', 1).ready == ""
    assert metadata_of(b'{"metadata":{"name":"x","finalizers":null}}').finalizers is None


def test_a_deletion_cost_that_is_no_number_counts_as_none():
    annotated = b'{"metadata":{"name":"x","annotations":{"controller.kubernetes.io/pod-deletion-cost":"%s"}}}'
    assert pod_of(annotated % b"-7", 1).deletion_cost == -7
    assert pod_of(annotated % b"cheap", 1).deletion_cost == 0


def requests_of(spec: dict, **status: object) -> dict[str, int]:
    body = {"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec, "status": status}
    return dict(pod_of(json.dumps(body).encode(), 1).requests)


def test_what_a_node_has_given_counts_until_it_is_given_back():
    spec = {
        "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "1Ki"}}}]
    }
    given = {
        "name": "main",
        "allocatedResources": {"cpu": "2"},
        "resources": {"requests": {"cpu": "3"}},
    }
    assert requests_of(spec, containerStatuses=[given]) == {"cpu": 3000, "memory": 1024}
    given = {"name": "main", "allocatedResources": {"cpu": "500m"}}
    assert requests_of(spec, containerStatuses=[given])["cpu"] == 1000


def test_a_pods_own_requests_win_over_its_containers():
    spec = {
        "containers": [
            {"name": "main", "resources": {"requests": {"cpu": "1", "example.com/x": "1"}}}
        ],
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Ki"}},
        "overhead": {"cpu": "100m"},
    }
    assert requests_of(spec) == {"cpu": 600, "memory": 1024, "example.com/x": 1}
