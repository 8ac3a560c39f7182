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


def test_reserved_labels_and_annotations_are_dropped():
    labels = {
        "node-restriction.kubernetes.io/secure": "yes",
        "node-role.kubernetes.io/control-plane": "",
        "ok": "1",
    }
    joined = names.new_node("a", "sha256:one")
    patch = register(node(labels, {names.PIN: "sha256:forged"}), joined)
    assert patch == {"metadata": {"labels": {"ok": "1"} | names.EDGE_LABELS}}


def test_a_node_without_a_pin_does_not_get_one_by_registering():
    patch = register(node(annotations={"a": "b"}), {"metadata": {"name": "a"}})
    assert patch["metadata"]["annotations"] == {"a": "b"}


def test_a_node_that_only_joined_gets_labels_and_taints_at_its_first_registration():
    joined = names.new_node("a", "sha256:one")
    patch = register(node({"zone": "x"}, taints=[TAINT]), joined)
    assert patch["metadata"] == {"labels": {"zone": "x"} | names.EDGE_LABELS}
    assert patch["spec"] == {"taints": [TAINT]}


def test_a_registered_node_keeps_what_administrators_changed():
    current = node({"zone": "x", "admin": "set"} | names.EDGE_LABELS, {names.PIN: "sha256:one"})
    assert register(node({"zone": "x"}, taints=[TAINT]), current) == {}
    assert register(node({"zone": "y"}), current) == {"metadata": {"labels": {"zone": "y"}}}


def test_a_taint_given_before_the_first_registration_stays():
    joined = names.new_node("a", "k") | {"spec": {"taints": [{"key": "maintenance"}]}}
    patch = register(node(taints=[TAINT]), joined)
    assert patch["spec"]["taints"] == [{"key": "maintenance"}, TAINT]
