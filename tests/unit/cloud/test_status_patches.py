# SPDX-License-Identifier: Apache-2.0
"""The patch that makes the API say what a node reported."""

from __future__ import annotations

from kedge.cloud.status_patches import named, status_patch


def test_what_vanished_is_set_to_null_and_what_others_own_is_left():
    known = {"message": "old", "qosClass": "Burstable", "phase": "Pending", "conditions": []}
    assert status_patch({"phase": "Running"}, known)["status"] == {
        "phase": "Running",
        "message": None,
    }


def test_a_condition_loses_the_reason_it_had():
    patch = status_patch({"conditions": [{"type": "Ready", "status": "True"}]}, None)
    assert patch["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "reason": None, "message": None}
    ]


def test_addresses_are_replaced_and_not_merged():
    patch = status_patch({"podIPs": [{"ip": "10.0.0.2"}]}, {"podIPs": [{"ip": "10.0.0.1"}]})
    assert patch["status"]["podIPs"] == [{"ip": "10.0.0.2"}, {"$patch": "replace"}]


def test_a_resource_that_a_node_lost_vanishes_unless_an_administrator_may_have_added_it():
    known = {"capacity": {"cpu": "2", "hugepages-2Mi": "1Mi", "example.com/gpu": "1"}}
    patch = status_patch({"capacity": {"cpu": "2"}}, known)
    assert patch["status"]["capacity"] == {"cpu": "2", "hugepages-2Mi": None}


def test_the_uid_keeps_a_patch_from_another_pod_of_that_name():
    assert status_patch({}, None, "u1")["metadata"] == {"uid": "u1"}
    assert "metadata" not in status_patch({}, None)


def test_a_condition_that_is_only_there_while_it_holds_goes():
    gone, other = {"type": "PodResizePending", "status": "True"}, {"type": "Mine", "status": "True"}
    patch = status_patch({"conditions": []}, {"conditions": [gone, other]})
    assert patch["status"]["conditions"] == [{"type": "PodResizePending", "$patch": "delete"}]
    patch = status_patch({"conditions": [gone]}, {"conditions": [gone]})
    assert [one["type"] for one in patch["status"]["conditions"]] == ["PodResizePending"]


def test_a_node_is_asked_by_name_where_there_is_a_domain():
    reported = {"addresses": [{"type": "InternalIP", "address": "10.0.0.5"}], "phase": "x"}
    found = named(reported, "shop-7", "nodes.example.com:6443")
    assert found["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.5"},
        {"type": "InternalDNS", "address": "shop-7.nodes.example.com"},
    ]
    assert found["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 6443}}
    assert found["phase"] == "x"
    assert named(reported, "shop-7", "") == reported
