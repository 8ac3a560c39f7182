# SPDX-License-Identifier: Apache-2.0
"""Cases in the form of upstream's documentation, on real types."""

from __future__ import annotations

import pytest

from kedge.api import schema, strategic_merge
from kedge.errors import BadRequest

POD = schema.struct("io.k8s.api.core.v1.Pod")
DEPLOYMENT = schema.struct("io.k8s.api.apps.v1.Deployment")


def pod(*containers, **spec):
    return {"spec": {"containers": list(containers), **spec}}


def test_containers_merge_by_name():
    original = pod({"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"})
    patch = pod({"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"})
    result = strategic_merge.apply(original, patch, POD)["spec"]["containers"]
    assert result == [
        {"name": "a", "image": "a:1"},
        {"name": "b", "image": "b:2"},
        {"name": "c", "image": "c:1"},
    ]


def test_tolerations_are_replaced_as_a_whole():
    original = pod(tolerations=[{"key": "a"}, {"key": "b"}])
    patch = {"spec": {"tolerations": [{"key": "c"}]}}
    assert strategic_merge.apply(original, patch, POD)["spec"]["tolerations"] == [{"key": "c"}]


def test_conditions_merge_by_type():
    original = {
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "False"},
            ]
        }
    }
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    result = strategic_merge.apply(original, patch, POD)["status"]["conditions"]
    assert result == [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True"},
    ]


def test_an_element_is_deleted_by_a_directive():
    original = pod({"name": "a"}, {"name": "b"})
    patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    assert strategic_merge.apply(original, patch, POD)["spec"]["containers"] == [{"name": "b"}]


def test_retain_keys_clears_the_other_kind_of_volume():
    original = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    patch = {
        "spec": {
            "volumes": [
                {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}
            ]
        }
    }
    assert strategic_merge.apply(original, patch, POD)["spec"]["volumes"] == [
        {"name": "v", "hostPath": {"path": "/x"}}
    ]


def test_set_element_order_reorders_without_changing_elements():
    original = pod({"name": "a"}, {"name": "b"}, {"name": "server-only"})
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    names = [
        one["name"] for one in strategic_merge.apply(original, patch, POD)["spec"]["containers"]
    ]
    assert names == ["b", "a", "server-only"]


def test_finalizers_are_deleted_from_a_list_of_scalars():
    original = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}
    assert strategic_merge.apply(original, patch, POD)["metadata"]["finalizers"] == ["a", "c"]


def test_the_strategy_of_a_deployment_keeps_only_what_is_retained():
    original = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge.apply(original, patch, DEPLOYMENT)["spec"]["strategy"] == {
        "type": "Recreate"
    }


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"spec": {"$patch": "merge"}}, "unknown patch type"),
        ({"spec": {"containers": [{"image": "x"}]}}, "declared merge key: name"),
        ({"spec": {"$retainKeys": ["a"], "b": 1}}, "not retained: b"),
        ({"spec": {"$setElementOrder/containers": {}}}, "wanted a list"),
        (
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "b"}],
                    "containers": [{"name": "a"}],
                }
            },
            "doesn't match",
        ),
    ],
)
def test_a_malformed_patch_is_refused(patch, words):
    with pytest.raises(BadRequest, match=words.replace("$", r"\$")):
        strategic_merge.apply(pod({"name": "a"}), patch, POD)
