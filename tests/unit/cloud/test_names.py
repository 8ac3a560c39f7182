# SPDX-License-Identifier: Apache-2.0
"""Who may have which node name (KubeEdge lets one certificate be a thousand nodes)."""

from __future__ import annotations

import pytest

from kedge.cloud import names
from kedge.errors import Invalid, Rejected
from kedge.hub.tokens import Grant

ANY = Grant("t", 1)
PINNED = {"metadata": {"name": "a", "uid": "u1", "annotations": {names.PIN: "sha256:one"}}}
FOREIGN = {"metadata": {"name": "a", "uid": "u1", "annotations": None}}


def test_a_free_name_is_pinned_to_the_key_that_asks():
    assert names.may_take("a", "sha256:one", ANY, None)
    assert names.pin_of(names.new_node("a", "sha256:one")) == "sha256:one"


def test_the_same_key_has_its_name_again():
    assert not names.may_take("a", "sha256:one", ANY, PINNED)


@pytest.mark.parametrize(
    ("grant", "node", "rule"),
    [
        (ANY, PINNED, "the name belongs to a node with another key"),
        (ANY, FOREIGN, "a Node of that name exists that did not join through kedge"),
        (Grant("t", 1, node="b"), None, "the token is for node b alone"),
        (Grant("t", 1, node="b", rejoin=True), PINNED, "the token is for node b alone"),
    ],
)
def test_a_refusal_says_which_rule_stands_against_it(grant, node, rule):
    with pytest.raises(Rejected, match=rule):
        names.may_take("a", "sha256:two", grant, node)


@pytest.mark.parametrize("node", [PINNED, FOREIGN])
def test_a_token_that_allows_rejoining_moves_the_name(node):
    assert names.may_take("a", "sha256:two", Grant("t", 1, rejoin=True), node)


def test_a_key_renews_itself_or_brings_its_successor():
    assert not names.may_renew("a", "u1", "sha256:one", "sha256:one", PINNED)
    assert names.may_renew("a", "u1", "sha256:one", "sha256:two", PINNED)
    assert not names.may_renew("a", "u1", "sha256:zero", "sha256:one", PINNED)


@pytest.mark.parametrize(
    ("uid", "node", "rule"),
    [
        ("u1", None, "its Node was deleted"),
        ("u0", PINNED, "its Node was deleted"),
        ("u1", PINNED, "the name belongs to another key"),
        ("u1", FOREIGN, "the name belongs to another key"),
    ],
)
def test_a_node_that_was_deleted_or_lost_its_name_does_not_renew(uid, node, rule):
    with pytest.raises(Rejected, match=rule):
        names.may_renew("a", uid, "sha256:two", "sha256:three", node)


@pytest.mark.parametrize("name", ["a", "edge-1", "a.b-c.d", "0", "a" * 253])
def test_names_that_kubernetes_accepts_are_accepted(name):
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "-a", "a-", "a..b", "a/b", "ä", "a" * 254, "a\n", 5]
)
def test_names_that_kubernetes_refuses_are_refused(name):
    with pytest.raises(Invalid, match="node name: wanted"):
        names.check_name(name)
