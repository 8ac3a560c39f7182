# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.cluster.apiserver import managing, yaml_bodies
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import ApiError, BadRequest, Conflict, Invalid, NotFound

MINE = WriteOptions(manager="mine")
OTHERS = WriteOptions(manager="others")
FORCED = WriteOptions(manager="mine", force=True)
KEY = ObjectKey("apps", "deployments", "default", "d")


def config(replicas=1, **spec):
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"a": "b"}},
            "template": template,
            **spec,
        },
    }


def owners(obj):
    return {
        (one["manager"], one["operation"], one.get("subresource", "")): one["fieldsV1"]
        for one in obj["metadata"].get("managedFields", ())
    }


async def test_an_apply_creates_and_then_changes(registry):
    made, is_new = await registry.apply(KEY, config(), options=MINE)
    assert is_new
    assert made["metadata"]["generation"] == 1
    assert "f:replicas" in owners(made)["mine", "Apply", ""]["f:spec"]
    assert "f:strategy" not in owners(made)["mine", "Apply", ""]["f:spec"]
    again, is_new = await registry.apply(KEY, config(), options=MINE)
    assert not is_new
    assert again == made
    changed, _ = await registry.apply(KEY, config(2), options=MINE)
    assert (changed["spec"]["replicas"], changed["metadata"]["generation"]) == (2, 2)


async def test_a_dry_run_of_an_apply_stores_nothing(registry):
    dry = WriteOptions(manager="mine", dry_run=True)
    _, is_new = await registry.apply(KEY, config(), options=dry)
    assert is_new
    with pytest.raises(NotFound):
        registry.get(KEY)


async def test_conflicts_have_causes(registry):
    await registry.create(KEY._replace(name=""), config(), OTHERS)
    with pytest.raises(Conflict) as caught:
        await registry.apply(KEY, config(5), options=MINE)
    assert caught.value.details == {
        "causes": [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "others" using apps/v1',
                "field": ".spec.replicas",
            }
        ]
    }
    forced, _ = await registry.apply(KEY, config(5), options=FORCED)
    assert "f:replicas" not in owners(forced)["others", "Update", ""]["f:spec"]


async def test_status_belongs_to_who_writes_status(registry):
    made = await registry.create(KEY._replace(name=""), config(), MINE)
    status = {"status": {"replicas": 1, "conditions": [{"type": "Ready", "status": "True"}]}}
    written = await registry.patch(KEY, status, subresource="status", options=OTHERS)
    found = owners(written)
    assert found["others", "Update", "status"] == {
        "f:status": {
            "f:conditions": {
                ".": {},
                'k:{"type":"Ready"}': {".": {}, "f:status": {}, "f:type": {}},
            },
            "f:replicas": {},
        }
    }
    assert found["mine", "Update", ""] == owners(made)["mine", "Update", ""]
    body = {**written, "status": {"replicas": 9}}
    updated = await registry.update(KEY, body, options=MINE)
    assert updated["status"]["replicas"] == 1
    assert owners(updated) == found


async def test_a_status_can_be_applied(registry):
    await registry.apply(KEY, config(), options=MINE)
    applied = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 7},
        "status": {"replicas": 3},
    }
    written, _ = await registry.apply(KEY, applied, subresource="status", options=OTHERS)
    assert (written["spec"]["replicas"], written["status"]["replicas"]) == (1, 3)
    assert owners(written)["others", "Apply", "status"] == {"f:status": {"f:replicas": {}}}
    with pytest.raises(NotFound):
        await registry.apply(
            KEY._replace(name="none"), applied, subresource="status", options=OTHERS
        )


async def test_scaling_takes_the_replicas(registry):
    await registry.apply(KEY, config(), options=MINE)
    scaled = await registry.scale(KEY, lambda _: 4, options=OTHERS)
    assert owners(scaled)["others", "Update", "scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owners(scaled)["mine", "Apply", ""]["f:spec"]
    with pytest.raises(Conflict, match='conflict with "others" with subresource "scale"'):
        await registry.apply(KEY, config(1), options=MINE)


async def test_clients_may_clear_set_and_forget_the_owners(registry):
    made = await registry.create(KEY._replace(name=""), config(), MINE)
    without = {
        **made,
        "metadata": {k: v for k, v in made["metadata"].items() if k != "managedFields"},
    }
    same = await registry.update(KEY, without, options=OTHERS)
    assert same == made
    renamed = [{**made["metadata"]["managedFields"][0], "manager": "renamed"}]
    patch = {"metadata": {"managedFields": renamed}}
    assert list(owners(await registry.patch(KEY, patch, options=OTHERS))) == [
        ("renamed", "Update", "")
    ]
    bad = {"metadata": {"managedFields": [{"operation": "Odd"}]}}
    assert list(owners(await registry.patch(KEY, bad, options=OTHERS))) == [
        ("renamed", "Update", "")
    ]
    cleared = await registry.patch(KEY, {"metadata": {"managedFields": [{}]}}, options=OTHERS)
    assert "managedFields" not in cleared["metadata"]
    patch = {"spec": {"replicas": 3}}
    untracked = await registry.patch(KEY, patch, options=OTHERS)
    assert "managedFields" not in untracked["metadata"]
    applied, _ = await registry.apply(KEY, config(3), options=MINE)
    assert {name for name, _, _ in owners(applied)} == {"before-first-apply", "mine"}


async def test_what_is_set_for_an_object_has_no_owner(registry):
    key = ObjectKey("", "services", "default", "s")
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
    made = await registry.create(key, body, MINE)
    spec = owners(made)["mine", "Update", ""]["f:spec"]
    assert made["spec"]["clusterIP"]
    assert "f:clusterIP" not in spec
    assert spec["f:ports"] == {
        ".": {},
        'k:{"port":80,"protocol":"TCP"}': {
            ".": {},
            "f:port": {},
            "f:protocol": {},
            "f:targetPort": {},
        },
    }
    pod = await registry.create(
        ObjectKey("", "pods", "default", "p"),
        {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        MINE,
    )
    [(_, found)] = owners(pod).items()
    assert "f:status" not in found
    assert "f:tolerations" not in found["f:spec"]


async def test_what_cannot_be_told_apart_is_not_tracked(registry):
    key = ObjectKey("", "serviceaccounts", "default", "sa")
    body = {"metadata": {"name": "sa"}, "secrets": [{"kind": "Secret"}]}
    made = await registry.create(key, body, MINE)
    assert "managedFields" not in made["metadata"]
    config = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"labels": {"a": "b"}}}
    with pytest.raises(ApiError, match="failed to create typed live object"):
        await registry.apply(key, config, options=MINE)
    key = key._replace(name="other")
    await registry.create(key, {"metadata": {"name": "other"}}, MINE)
    labelled = await registry.patch(key, {"metadata": {"labels": {"a": "b"}}}, options=MINE)
    secrets = {"secrets": [{"kind": "Secret"}]}
    patched = await registry.patch(key, secrets, options=OTHERS)
    assert patched["secrets"] == secrets["secrets"]
    assert owners(patched) == owners(labelled)


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        ({"apiVersion": "v1", "kind": "Pod"}, BadRequest, "invalid object type: /v1, Kind=Pod"),
        (
            {**config(), "metadata": {"name": "d", "managedFields": []}},
            BadRequest,
            "metadata.managedFields must be nil",
        ),
        (
            config(odd=1),
            ApiError,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.odd: field not "
            "declared in schema",
        ),
        (
            {**config(), "metadata": {"name": "other"}},
            BadRequest,
            "the name of the object (other) does not match the name on the URL (d)",
        ),
        (
            {**config(), "metadata": {"name": "d", "uid": "x"}},
            Conflict,
            'Operation cannot be fulfilled on deployments.apps "d": uid mismatch: the provided object '
            "specified uid x, and no existing object was found",
        ),
    ],
)
async def test_what_cannot_be_applied_is_refused(registry, body, error, told):
    with pytest.raises(error) as caught:
        await registry.apply(KEY, body, options=MINE)
    assert caught.value.message == told


async def test_an_apply_may_be_for_one_version(registry):
    made, _ = await registry.apply(KEY, config(), options=MINE)
    body = config(2)
    body["metadata"]["resourceVersion"] = "1"
    with pytest.raises(Conflict, match="the object has been modified"):
        await registry.apply(KEY, body, options=MINE)
    body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    changed, _ = await registry.apply(KEY, body, options=MINE)
    assert changed["spec"]["replicas"] == 2


def test_managers_are_named_or_are_the_program():
    assert managing.manager_name("", "kubectl/v1.36 (linux)") == "kubectl"
    assert managing.manager_name("own", "kubectl/v1.36") == "own"
    assert managing.manager_name("", "") == ""
    assert managing.manager_name("", "ö\x00" * 200) == "ö" * 64


@pytest.mark.parametrize(
    ("name", "force", "is_apply", "told"),
    [
        ("", None, True, "fieldManager: Required value: is required for apply patch"),
        ("m", "true", False, "force: Forbidden: may not be specified for non-apply patch"),
        ("m" * 129, None, True, "fieldManager: Too long: may not be more than 128 bytes"),
        ("a\x07", None, True, "invalid character U+0007 (at position 1)"),
    ],
)
def test_options_are_checked(name, force, is_apply, told):
    with pytest.raises(Invalid) as caught:
        managing.check_manager("PATCH", name, force, is_apply=is_apply)
    assert caught.value.message.startswith('PatchOptions.meta.k8s.io "" is invalid: ')
    assert told in caught.value.message


def test_resizing_owns_resources_alone():
    fields = {
        "f:spec": {
            "f:containers": {'k:{"name":"c"}': {"f:image": {}, "f:resources": {"f:limits": {}}}},
            "f:hostname": {},
        }
    }
    assert managing.owns(find("", "pods"), "resize")(fields) == {
        "f:spec": {"f:containers": {'k:{"name":"c"}': {"f:resources": {"f:limits": {}}}}}
    }


def test_yaml_is_read_as_kubernetes_does():
    document, twice = yaml_bodies.load(b"a: 2020-01-01\non: 1\nb: &x {c: yes}\nd: *x\nb: 2\n")
    assert document == {"a": "2020-01-01", "on": 1, "b": 2, "d": {"c": True}}
    assert twice == ['line 5: key "b" already set in map']


@pytest.mark.parametrize(
    "body",
    [
        b"a: [",
        b"\xff",
        b"? [a]\n: b",
        b"a: !!binary aGVsbG8=",
        b"a: !!python/object:os.system x",
        b"--- 1\n--- 2\n",
        b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (98 + n, 98 + n, b", ".join([b"*%c" % (97 + n)] * 10))
            for n in range(8)
        ),
    ],
)
def test_bad_yaml_is_refused(body):
    with pytest.raises(BadRequest, match="error decoding YAML"):
        yaml_bodies.load(body)
