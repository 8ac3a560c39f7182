# SPDX-License-Identifier: Apache-2.0
"""Every kind of Kubernetes' stable API has its place on the page: served, or with a reason why not."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from kedge.api.kinds import KINDS, REVIEWS
from kedge.cluster import features

DEFINITIONS = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "kubernetes.md"
PARTS = {"APIGroup", "APIVersions", "DeleteOptions", "Status", "WatchEvent"}
"""Answers and options, which are no resources."""


def stable() -> set[tuple[str, str]]:
    """Group and kind of everything that 1.36 has in a version without alpha or beta."""
    text = (files("kubernetes_validate") / DEFINITIONS).read_text(encoding="utf-8")
    found = set()
    for name, definition in json.loads(text)["$defs"].items():
        for named in definition.get("x-kubernetes-group-version-kind", ()):
            is_stable = "alpha" not in named["version"] and "beta" not in named["version"]
            if is_stable and not named["kind"].endswith("List") and named["kind"] not in PARTS:
                assert name
                found.add((named["group"], named["kind"]))
    return found


def served() -> set[tuple[str, str]]:
    kinds = {(kind.group, kind.kind) for kind in (*KINDS, *REVIEWS)}
    below = {(item.group, item.kind) for kind in KINDS for item in kind.subresources if item.kind}
    return kinds | below


def test_every_stable_kind_is_served_or_has_a_reason():
    assert len(stable()) > 60
    assert stable() - served() - set(features.ABSENT) == set()


def test_a_reason_is_for_a_kind_that_there_is():
    assert set(features.ABSENT) - stable() == set()


@pytest.mark.parametrize("group_kind", sorted(stable()))
def test_the_page_names_it(group_kind):
    _, kind = group_kind
    assert kind in PAGE.read_text(encoding="utf-8")


def test_features_have_states_and_what_is_partly_there_says_what_is_missing():
    seen = set()
    for feature in features.FEATURES:
        assert feature.state in {features.YES, features.PARTLY, features.NO}
        assert feature.note or feature.state != features.PARTLY, feature.name
        assert feature.name not in seen
        seen.add(feature.name)
