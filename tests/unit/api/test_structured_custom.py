# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from kedge.api.structured import custom, problems
from kedge.api.structured.compare import compare, fields_of
from kedge.api.structured.merging import merge

PORT = {
    "type": "object",
    "properties": {
        "port": {"type": "integer"},
        "protocol": {"type": "string", "default": "TCP"},
        "target": {"x-kubernetes-int-or-string": True},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "chosen": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "additionalProperties": {"type": "string"},
                },
                "words": {"type": "array", "items": {"type": "string"}},
                "marks": {
                    "type": "array",
                    "items": {"type": "string"},
                    "x-kubernetes-list-type": "set",
                },
                "ports": {
                    "type": "array",
                    "items": PORT,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["protocol", "port"],
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "inner": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
            },
        }
    },
}
WHOLE = custom.whole(SCHEMA)


def test_lists_and_maps_merge_as_their_schema_says():
    one = {
        "metadata": {"labels": {"a": "1"}},
        "spec": {
            "labels": {"a": "1"},
            "chosen": {"a": "1"},
            "words": ["a"],
            "marks": ["a"],
            "ports": [{"port": 1, "target": "x"}],
            "free": {"a": {"b": 1}, "l": [1]},
        },
    }
    two = {
        "spec": {
            "labels": {"b": "2"},
            "chosen": {"b": "2"},
            "words": ["b"],
            "marks": ["b"],
            "ports": [{"port": 1, "protocol": "TCP", "target": 2}, {"port": 1, "protocol": "UDP"}],
            "free": {"a": {"c": 2}, "l": [2]},
        }
    }
    assert merge(WHOLE, one, two)["spec"] == {
        "labels": {"a": "1", "b": "2"},
        "chosen": {"b": "2"},
        "words": ["b"],
        "marks": ["a", "b"],
        "ports": [{"port": 1, "target": 2, "protocol": "TCP"}, {"port": 1, "protocol": "UDP"}],
        "free": {"a": {"b": 1, "c": 2}, "l": [2]},
    }


def test_owners_are_told_as_for_every_object_without_a_go_type():
    made = {"metadata": {"name": "x"}, "spec": {"size": 1, "free": {"a": {}}}}
    assert compare(WHOLE, {}, made).changed["f:spec"] == {
        ".": {},
        "f:free": {".": {}, "f:a": {}},
        "f:size": {},
    }
    applied = {"spec": {"inner": {"kind": "Pod", "metadata": {"labels": {"a": "b"}}, "x": 1}}}
    assert fields_of(WHOLE, applied)["f:spec"]["f:inner"] == {
        "f:kind": {},
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:x": {},
    }


def test_what_a_schema_does_not_know_is_refused_where_it_is_closed():
    assert (
        problems.describe(WHOLE, {"spec": {"odd": 1}}) == ".spec.odd: field not declared in schema"
    )
    assert problems.describe(WHOLE, {"spec": {"free": {"odd": [{"x": 1}]}}}) == ""
    assert "expected string" in problems.describe(WHOLE, {"spec": {"labels": {"a": 1}}})


def test_types_are_made_once_for_a_schema_and_let_go():
    known = custom.Types()
    first = known.of(SCHEMA)
    assert known.of(SCHEMA) is first
    for _ in range(custom.KEPT):
        known.of(dict(SCHEMA))
    assert known.of(SCHEMA) is not first
