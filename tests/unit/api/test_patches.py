# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api import patches
from kedge.errors import BadRequest, Invalid, UnsupportedMediaType


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_follow_the_examples_of_rfc_7386(original, patch, result):
    assert patches.apply(original, patch, patches.MERGE, None) == result


def test_a_json_patch_adds_replaces_removes_and_tests():
    operations = [
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "add", "path": "/list/-", "value": "x"},
        {"op": "remove", "path": "/b"},
    ]
    assert patches.apply({"a": 1, "b": 1, "list": []}, operations, patches.JSON_PATCH, None) == {
        "a": 2,
        "list": ["x"],
    }


@pytest.mark.parametrize(
    ("patch", "kind", "error"),
    [
        ({}, patches.JSON_PATCH, BadRequest),
        ([{"op": "dance", "path": "/a"}], patches.JSON_PATCH, BadRequest),
        ([{"op": "test", "path": "/a", "value": 2}], patches.JSON_PATCH, Invalid),
        ([{"op": "remove", "path": "/zzz"}], patches.JSON_PATCH, Invalid),
        ([{"op": "add", "path": "/a", "value": 1}] * 10_001, patches.JSON_PATCH, BadRequest),
        ([], patches.MERGE, BadRequest),
        ({}, "application/apply-patch+yaml", UnsupportedMediaType),
        ({}, "text/plain", UnsupportedMediaType),
    ],
)
def test_a_patch_that_cannot_be_applied_is_refused(patch, kind, error):
    with pytest.raises(error):
        patches.apply({"a": 1}, patch, kind, None)
