# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api import names, selectors


@pytest.mark.parametrize("name", ["a", "a-1", "0", "a" * 63])
def test_a_legal_label_has_no_complaint(name):
    assert names.label(name) == ""


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a.b", "a" * 64, "a\n"])
def test_an_illegal_label_has_one(name):
    assert names.label(name)


def test_qualified_names_have_an_optional_prefix():
    assert names.qualified("app") == ""
    assert names.qualified("example.com/app") == ""
    assert names.qualified("/app")
    assert names.qualified("Example.com/app")
    assert names.qualified("a/b/c")


def test_generated_names_fit_and_differ():
    made = {names.generated("x" * 80) for _ in range(50)}
    assert len(made) == 50
    assert all(len(name) == 63 for name in made)


def test_selectors_match_and_are_written_as_text():
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
    assert selectors.matches(selector, {"app": "web", "tier": "a"})
    assert not selectors.matches(selector, {"app": "web", "tier": "c"})
    assert not selectors.matches(selector, {"app": "web", "tier": "a", "old": ""})
    assert not selectors.matches(None, {})
    assert selectors.matches({}, {})
    assert selectors.text(selector) == "app=web,tier in (a,b),!old"
