# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api import defaults
from kedge.api.structured import entries, managers, problems, sets, types
from kedge.api.structured.compare import Changes, compare, fields_of
from kedge.api.structured.managers import ConflictsError, Writer
from kedge.api.structured.merging import merge, reconciled

DEPLOYMENT = types.of("io.k8s.api.apps.v1.Deployment")
POD = types.of("io.k8s.api.core.v1.Pod")


def container(name, **more):
    return {"name": name, "image": "i:1", **more}


def pod(*containers):
    return {"spec": {"containers": list(containers)}}


def test_a_new_deployment_has_the_fields_that_the_api_server_tells_of():
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container("c", ports=[{"containerPort": 80}])]},
            },
        },
    }
    defaults.apply("apps", "deployments", made)
    [entry] = managers.update([], compare(DEPLOYMENT, {}, made), Writer("m", "apps/v1", "now"))
    spec = entry.owned["f:spec"]
    assert entry.owned["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}
    assert list(spec) == sorted(spec)
    assert spec["f:selector"] == {}
    assert spec["f:strategy"] == {
        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
        "f:type": {},
    }
    assert "." not in spec["f:template"]["f:spec"]["f:containers"]
    found = spec["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert found["f:ports"] == {
        ".": {},
        'k:{"containerPort":80,"protocol":"TCP"}': {
            ".": {},
            "f:containerPort": {},
            "f:protocol": {},
        },
    }
    assert found["f:resources"] == {}


def test_a_configuration_has_only_what_it_says():
    config = {
        "metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "volumes": []},
    }
    assert fields_of(POD, config) == {
        "f:metadata": {"f:finalizers": {'v:"x/y"': {}}, "f:labels": {"f:a": {}}},
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:name": {},
                    "f:ports": {
                        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                    },
                }
            }
        },
    }


def test_keys_of_lists_are_in_the_order_of_their_values():
    ports = [{"containerPort": number} for number in (443, 80, 8080)]
    found = compare(POD, {}, pod(container("c", ports=ports))).changed
    below = found["f:spec"]["f:containers"]['k:{"name":"c"}']["f:ports"]
    assert list(below) == [
        ".",
        'k:{"containerPort":80,"protocol":"TCP"}',
        'k:{"containerPort":443,"protocol":"TCP"}',
        'k:{"containerPort":8080,"protocol":"TCP"}',
    ]


@pytest.mark.parametrize(
    ("live", "config", "merged"),
    [
        (["a", "b", "c"], ["c", "x"], ["a", "b", "c", "x"]),
        (["a", "b", "c"], ["c", "a"], ["b", "c", "a"]),
        (["a"], ["x", "a", "y"], ["x", "a", "y"]),
        ([], ["x"], ["x"]),
        (["a"], [], ["a"]),
    ],
)
def test_elements_keep_their_order_where_the_configuration_leaves_it_open(live, config, merged):
    before, after = (pod(*(container(name) for name in names)) for names in (live, config))
    names = [one["name"] for one in merge(POD, before, after)["spec"]["containers"]]
    assert names == merged


def test_what_is_no_longer_applied_goes_unless_somebody_else_has_it():
    one, two = Writer("one", "v1", "t1"), Writer("two", "v1", "t2")
    both = {"metadata": {"labels": {"mine": "1", "ours": "1"}}}
    live, owners = managers.apply(POD, {}, both, [], one, force=False)
    live, owners = managers.apply(
        POD, live, {"metadata": {"labels": {"ours": "1"}}}, owners, two, force=False
    )
    live, owners = managers.apply(POD, live, {}, owners, one, force=False)
    assert live == {"metadata": {"labels": {"ours": "1"}}}
    assert [entry.manager for entry in owners] == ["two"]
    live, owners = managers.apply(POD, live, {}, owners, two, force=False)
    assert not (live.get("metadata") or {}).get("labels")
    assert owners == []


def test_conflicts_name_managers_and_fields_as_upstream():
    config = {"spec": {"replicas": 3, "paused": True}}
    live = {"spec": {"replicas": 1, "paused": False}}
    first = managers.update(
        [], compare(DEPLOYMENT, {}, live), Writer("hpa", "apps/v1", "t", "scale")
    )
    writer = Writer("me", "apps/v1", "t")
    with pytest.raises(ConflictsError) as caught:
        managers.apply(DEPLOYMENT, live, config, first, writer, force=False)
    assert str(caught.value) == (
        'Apply failed with 2 conflicts: conflicts with "hpa" with subresource "scale" using apps/v1:\n'
        "- .spec.paused\n- .spec.replicas"
    )
    with pytest.raises(ConflictsError) as caught:
        managers.apply(DEPLOYMENT, live, {"spec": {"replicas": 3}}, first, writer, force=False)
    assert str(caught.value) == (
        'Apply failed with 1 conflict: conflict with "hpa" with subresource "scale" using apps/v1: '
        ".spec.replicas"
    )
    new, owners = managers.apply(DEPLOYMENT, live, config, first, writer, force=True)
    assert new == config
    assert [entry.manager for entry in owners] == ["me"]


def test_objects_that_nobody_tracked_belong_to_before_the_first_apply():
    live = {"spec": {"replicas": 1}}
    writer = Writer("me", "apps/v1", "t")
    _, owners = managers.apply(DEPLOYMENT, live, live, [], writer, force=False)
    assert [(entry.manager, entry.operation) for entry in owners] == [
        ("before-first-apply", "Update"),
        ("me", "Apply"),
    ]


def test_the_oldest_updates_become_one():
    owners = []
    for number in range(13):
        changes = Changes({"f:metadata": {"f:labels": {f"f:{number:02}": {}}}}, {})
        owners = managers.update(owners, changes, Writer(f"m{number:02}", "v1", f"t{number:02}"))
    assert len(owners) == entries.MAX_UPDATERS
    ancient = next(entry for entry in owners if entry.manager == entries.ANCIENT)
    assert ancient.time == "t03"
    assert list(ancient.owned["f:metadata"]["f:labels"]) == ["f:00", "f:01", "f:02", "f:03"]


def test_a_time_changes_only_with_the_fields():
    writer = Writer("m", "v1", "later")
    owners = managers.update([], compare(POD, {}, pod(container("c"))), writer._replace(now="t"))
    assert managers.update(owners, Changes({}, {}), writer) == owners
    new, again = managers.apply(
        POD, pod(container("c")), pod(container("c")), owners, writer, force=False
    )
    assert new == pod(container("c"))
    assert [entry.time for entry in again] == ["t", ""]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"spec": {"foo": 1}}, ".spec.foo: field not declared in schema"),
        (
            {"spec": {"replicas": "3"}},
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            {"metadata": {"labels": {"a": 1}}},
            ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
        ({"spec": {"paused": "x"}}, ".spec.paused: expected boolean, got &{x}"),
        ({"spec": []}, ".spec: expected map, got &{[]}"),
        (
            {"spec": {"template": pod({"image": "i"})}},
            ".spec.template.spec.containers: element 0: associative list with keys has an element that "
            'omits key field "name" (and doesn\'t have default value)',
        ),
        (
            {"spec": {"template": pod(container("a"), container("a"))}},
            '.spec.template.spec.containers: duplicate entries for key [name="a"]',
        ),
        ({"spec": {"replicas": None, "template": pod(container("a"))}}, ""),
    ],
)
def test_what_does_not_fit_is_told_as_upstream_does(config, told):
    assert problems.describe(DEPLOYMENT, config) == told


def test_many_problems_are_a_list_with_an_end():
    config = {"spec": {f"f{number}": 1 for number in range(200)}}
    lines = problems.describe(DEPLOYMENT, config).splitlines()
    assert lines[0] == "errors:"
    assert len(lines) == 1 + problems.MAX_PROBLEMS


@pytest.mark.parametrize(
    "sent",
    [
        "x",
        [1],
        [{"operation": "Other", "apiVersion": "v1", "fieldsType": "FieldsV1"}],
        [{"operation": "Update", "apiVersion": "", "fieldsType": "FieldsV1"}],
        [{"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV2"}],
        [
            {
                "operation": "Update",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:a": 1},
            }
        ],
        [
            {
                "operation": "Update",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"k:x": {}},
            }
        ],
        [{"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "time": "x" * 19}],
        [{}] * (entries.MAX_ENTRIES + 1),
    ],
)
def test_malformed_owners_are_not_read(sent):
    with pytest.raises(ValueError, match=r"\w"):
        entries.read(sent)


def test_owners_are_read_in_one_form():
    sent = {
        "manager": "m",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "time": "2026-01-01T02:00:00.5+02:00",
        "fieldsV1": {"f:b": {}, 'k:{"b": 2, "a": "x"}': {}, "f:a": {".": {}}, "z:odd": {}},
    }
    [entry] = entries.read([sent])
    assert entry.time == "2026-01-01T00:00:00Z"
    assert list(entry.owned) == ["f:a", "f:b", 'k:{"a":"x","b":2}']
    assert sets.text(('k:{"a":"x","b":2}', "f:c", 'v:"w"', "i:1")) == '[a="x",b=2].c[="w"][1]'


def test_sets_nested_without_end_are_refused():
    deep: dict[str, object] = {}
    for _ in range(sets.MAX_DEPTH + 5):
        deep = {"f:a": deep}
    with pytest.raises(ValueError, match="deeper"):
        sets.parse(deep)


def test_owners_of_parts_of_what_has_become_atomic_own_the_whole():
    before = {
        "f:spec": {
            "f:selector": {"f:matchLabels": {"f:a": {}}},
            "f:template": {
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"c"}': {".": {}, "f:args": {'v:"x"': {}}, "f:image": {}}
                    }
                }
            },
        }
    }
    after = reconciled(DEPLOYMENT, before)
    assert after["f:spec"]["f:selector"] == {}
    containers = after["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert containers == {'k:{"name":"c"}': {".": {}, "f:args": {}, "f:image": {}}}
    assert reconciled(DEPLOYMENT, after) == after
