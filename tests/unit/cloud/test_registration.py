# SPDX-License-Identifier: Apache-2.0
"""What a node may say of itself."""

from __future__ import annotations

from kedge.cloud import names
from kedge.cloud.registration import register

TAINT = {"key": "edge", "effect": "NoSchedule"}


def node(labels=None, annotations=None, taints=None):
    spec = {"taints": taints} if taints else {}
    return {
        "metadata": {"name": "a", "labels": labels or {}, "annotations": annotations or {}},
        "spec": spec,
    }


def test_a_new_node_gets_the_edge_labels_its_taints_and_its_pin():
    created = register(node({"zone": "x"}, taints=[TAINT]), None, "sha256:one")
    assert created["metadata"]["labels"] == {"zone": "x"} | names.EDGE_LABELS
    assert created["metadata"]["annotations"] == {names.PIN: "sha256:one"}
    assert created["spec"] == {"taints": [TAINT]}


def test_reserved_labels_and_annotations_are_dropped():
    labels = {
        "node-restriction.kubernetes.io/secure": "yes",
        "node-role.kubernetes.io/control-plane": "",
        "ok": "1",
    }
    created = register(node(labels, {names.PIN: "sha256:forged"}), None, "")
    assert created["metadata"]["labels"] == {"ok": "1"} | names.EDGE_LABELS
    assert created["metadata"]["annotations"] == {}


def test_a_node_that_only_joined_gets_labels_and_taints_at_its_first_registration():
    joined = names.new_node("a", "sha256:one")
    patch = register(node({"zone": "x"}, taints=[TAINT]), joined, "sha256:one")
    assert patch["metadata"] == {"labels": {"zone": "x"} | names.EDGE_LABELS}
    assert patch["spec"] == {"taints": [TAINT]}


def test_a_registered_node_keeps_what_administrators_changed():
    current = node({"zone": "x", "admin": "set"} | names.EDGE_LABELS, {names.PIN: "sha256:one"})
    assert register(node({"zone": "x"}, taints=[TAINT]), current, "sha256:one") == {}
    assert register(node({"zone": "y"}), current, "sha256:one") == {
        "metadata": {"labels": {"zone": "y"}}
    }


def test_a_taint_given_before_the_first_registration_stays():
    joined = names.new_node("a", "k") | {"spec": {"taints": [{"key": "maintenance"}]}}
    patch = register(node(taints=[TAINT]), joined, "k")
    assert patch["spec"]["taints"] == [{"key": "maintenance"}, TAINT]
