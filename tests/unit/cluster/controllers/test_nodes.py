# SPDX-License-Identifier: Apache-2.0
"""When a node is out of reach, and what is marked and taken back, over virtual time."""

from __future__ import annotations

from typing import Any

from kedge.cluster.controllers.nodes import health
from kedge.cluster.machinery.conditions import find

NOW = 1_800_000_000.0


def node(ready: str = "True", reason: str = "KubeletReady", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "edge"},
        "spec": spec,
        "status": {
            "conditions": [
                {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure"},
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": reason,
                    "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                },
            ]
        },
    }


def test_a_silent_node_is_out_of_reach_after_the_grace_and_not_before():
    signs = health.observe(None, "lease-1", "beat-1", now=100)
    assert health.seconds_left(signs, 139.9, 40) > 0
    assert health.seconds_left(signs, 140, 40) <= 0


def test_a_renewed_lease_or_a_heartbeat_starts_the_grace_anew():
    signs = health.observe(None, "lease-1", "beat-1", now=100)
    renewed = health.observe(signs, "lease-2", "beat-1", now=130)
    assert health.seconds_left(renewed, 140, 40) == 30
    beaten = health.observe(renewed, "lease-2", "beat-2", now=150)
    assert health.seconds_left(beaten, 150, 40) == 40
    assert beaten.heard


def test_signs_seen_again_unchanged_do_not_count():
    signs = health.observe(None, "lease-1", "beat-1", now=100)
    assert health.observe(signs, "lease-1", "beat-1", now=139) is signs
    assert not signs.heard


def test_times_written_in_the_lease_do_not_matter():
    signs = health.observe(None, "1999-01-01T00:00:00Z", "", now=100)
    assert health.seconds_left(signs, 100, 40) == 40


def test_a_node_that_never_spoke_has_the_startup_grace():
    assert health.seconds_left(health.observe(None, "", "", now=0), 45, 40) == 15


def test_a_lost_node_is_unknown_and_says_so_once():
    lost = health.lost_conditions(node(), NOW, never_spoke=False)
    assert lost is not None
    ready = find(lost, "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
    assert ready["lastHeartbeatTime"] == "2026-01-01T00:00:00Z"
    assert find(lost, "DiskPressure")["status"] == "Unknown"
    assert find(lost, "MemoryPressure") is None
    again = {**node(), "status": {"conditions": lost}}
    assert health.lost_conditions(again, NOW + 1, never_spoke=False) is None


def test_a_node_heard_of_again_gets_back_the_conditions_it_had():
    before = node()["status"]["conditions"]
    lost = health.lost_conditions(node(), NOW, never_spoke=False)
    found = health.found_conditions({"status": {"conditions": lost}}, before, NOW + 60)
    assert found is not None
    assert find(found, "Ready")["status"] == "True"
    assert find(found, "Ready")["reason"] == "KubeletReady"
    assert find(found, "DiskPressure")["status"] == "False"


def test_what_the_node_reported_itself_is_not_overwritten():
    reported = node("False", "KubeletNotReady")
    assert health.found_conditions(reported, node()["status"]["conditions"], NOW) is None


def test_taints_follow_the_conditions():
    assert health.wanted_taints(node(), NOW) is None
    keys = lambda body: [each["key"] for each in health.wanted_taints(body, NOW) or []]  # noqa: E731
    assert keys(node("Unknown")) == [health.UNREACHABLE]
    assert keys(node("False")) == [health.NOT_READY]
    assert keys(node(unschedulable=True)) == [health.UNSCHEDULABLE]
    assert keys({"metadata": {}, "spec": {}, "status": {}}) == [health.NOT_READY]


def test_nobody_is_evicted_so_no_taint_says_no_execute():
    for body in (node("Unknown"), node("False")):
        assert {each["effect"] for each in health.wanted_taints(body, NOW)} == {"NoSchedule"}


def test_taints_of_others_stay_and_ours_go():
    others = [
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"},
        {"key": health.UNREACHABLE, "effect": "NoExecute"},
    ]
    back = node(taints=[*others, {"key": health.UNREACHABLE, "effect": "NoSchedule"}])
    assert health.wanted_taints(back, NOW) == others
    assert health.wanted_taints(node(taints=others), NOW) is None


def pod(ready: str = "True", reason: str | None = None) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, **({"reason": reason} if reason else {})}
    return {
        "status": {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}, condition],
        }
    }


def test_a_ready_pod_of_a_lost_node_is_marked_and_taken_back():
    lost = health.lost_pod(pod(), "edge", NOW)
    assert lost is not None
    ready = find(lost, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NodeUnreachable")
    assert find(lost, "PodScheduled")["status"] == "True"
    marked = {"status": {"conditions": lost}}
    assert health.lost_pod(marked, "edge", NOW) is None
    found = health.found_pod(marked, NOW + 60)
    assert find(found, "Ready")["status"] == "True"
    assert "reason" not in find(found, "Ready")


def test_a_pod_that_was_not_ready_is_not_marked_nor_made_ready():
    assert health.lost_pod(pod("False", "ContainersNotReady"), "edge", NOW) is None
    assert health.found_pod(pod("False", "ContainersNotReady"), NOW) is None
