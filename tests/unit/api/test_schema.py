# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from kedge.api import schema
from kedge.errors import BadRequest

POD = schema.struct("io.k8s.api.core.v1.Pod")


def test_a_clean_document_is_left_alone():
    pod = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}
    before = json.dumps(pod)
    assert schema.decode(POD, pod) == []
    assert json.dumps(pod) == before


def test_unknown_fields_are_named_and_dropped():
    pod = {"spec": {"containers": [{"name": "a", "imagee": "x"}], "nodName": "n"}, "extra": {}}
    assert sorted(schema.decode(POD, pod)) == ["extra", "spec.containers[0].imagee", "spec.nodName"]
    assert pod == {"spec": {"containers": [{"name": "a"}]}}


def test_nulls_are_dropped_and_quantities_written_canonically():
    pod = {
        "metadata": {"creationTimestamp": None},
        "spec": {
            "containers": [{"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}]
        },
    }
    assert schema.decode(POD, pod) == []
    assert pod["metadata"] == {}
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"containers": "x"},
            r"cannot unmarshal string into Go struct field spec.containers of type array",
        ),
        (
            {"containers": [{"ports": [{"containerPort": "80"}]}]},
            r"spec.containers\[0\].ports\[0\].containerPort of type int64",
        ),
        ({"hostNetwork": 1}, "spec.hostNetwork of type bool"),
        ({"nodeSelector": {"a": 1}}, "spec.nodeSelector.a of type string"),
        ({"containers": [{"resources": {"limits": {"cpu": "one"}}}]}, "quantities must match"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(spec, words):
    with pytest.raises(BadRequest, match=words):
        schema.decode(POD, {"spec": spec})


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"a": 1, "b": {"c": 1}}', []),
        (b'{"a": 1, "a": 2}', ["a"]),
        (b'{"x": {"a" : 1, "a": 2}}', ["x.a"]),
        (b'{"x": [{"k": "\\":", "k": 2}]}', ["x[0].k"]),
        (b'{"a" : 1}', []),
    ],
)
def test_duplicate_keys_are_found(body, paths):
    compact = json.dumps(json.loads(body), separators=(",", ":")).encode()
    assert schema.duplicates(body, compact) == paths


def test_every_served_kind_has_a_type():
    from kedge.api.kinds import KINDS, REVIEWS

    for kind in (*KINDS, *REVIEWS):
        assert "metadata" in schema.struct(kind.definition).fields
