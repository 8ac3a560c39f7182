# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from kedge.api import patches
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound


def pod(name="p", **spec):
    metadata = {"name": name} if name else {"generateName": "p-"}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


def pods(name="p", namespace="default"):
    return ObjectKey("", "pods", namespace, name)


def config(name="c"):
    return ObjectKey("", "configmaps", "default", name)


def deployments(name="d"):
    return ObjectKey("apps", "deployments", "default", name)


def deployment(name="d", image="i:1"):
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


async def test_a_created_object_is_stored_with_what_the_server_owns(registry):
    made = await registry.create(config(), {"metadata": {"name": "c"}, "data": {"a": "b"}})
    assert made == registry.get(config())
    assert made["metadata"]["namespace"] == "default"
    assert made["metadata"]["resourceVersion"] == str(registry.store.get(config()).revision)
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")


async def test_what_a_caller_passes_is_not_changed(registry):
    given = pod()
    await registry.create(pods(), given)
    assert given == pod()


async def test_a_name_is_taken_once(registry):
    await registry.create(config(), {"metadata": {"name": "c"}})
    with pytest.raises(AlreadyExists, match='configmaps "c" already exists'):
        await registry.create(config(), {"metadata": {"name": "c"}})


async def test_generated_names_differ(registry):
    made = [await registry.create(pods(""), pod("")) for _ in range(3)]
    names = {one["metadata"]["name"] for one in made}
    assert len(names) == 3
    assert all(name.startswith("p-") for name in names)


async def test_a_pod_gets_defaults_and_its_accounts_token(registry):
    made = await registry.create(pods(), pod())
    spec = made["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"].endswith("/serviceaccount")
    assert (
        spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"]
        == 3607
    )
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert made["metadata"]["generation"] == 1


async def test_a_pod_that_does_not_want_the_token_has_no_volume(registry):
    made = await registry.create(pods(), pod(automountServiceAccountToken=False))
    assert "volumes" not in made["spec"]


async def test_a_pod_of_an_account_that_is_not_there_is_refused(registry):
    with pytest.raises(Forbidden, match='serviceaccount "nobody" not found'):
        await registry.create(pods(), pod(serviceAccountName="nobody"))


async def test_a_pod_waits_a_moment_for_its_account(registry):
    async def later():
        await asyncio.sleep(0.1)
        await registry.create(
            ObjectKey("", "serviceaccounts", "default", "late"), {"metadata": {"name": "late"}}
        )

    _, made = await asyncio.gather(later(), registry.create(pods(), pod(serviceAccountName="late")))
    assert made["spec"]["serviceAccountName"] == "late"


async def test_nothing_is_created_where_there_is_no_namespace_or_it_goes_away(registry):
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await registry.create(pods(namespace="nowhere"), pod())
    space = ObjectKey("", "namespaces", "", "leaving")
    await registry.create(space, {"metadata": {"name": "leaving"}})
    assert not await registry.delete(space)
    assert registry.get(space)["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="being terminated"):
        await registry.create(pods(namespace="leaving"), pod())


async def test_a_finalized_namespace_is_gone(registry):
    space = ObjectKey("", "namespaces", "", "leaving")
    await registry.create(space, {"metadata": {"name": "leaving"}})
    await registry.delete(space)
    await registry.patch(space, {"spec": {"finalizers": []}}, subresource="finalize")
    with pytest.raises(NotFound):
        registry.get(space)


async def test_a_stale_version_is_a_conflict_and_an_equal_object_no_write(registry):
    made = await registry.create(config(), {"metadata": {"name": "c"}, "data": {"a": "1"}})
    changed = await registry.update(config(), {**made, "data": {"a": "2"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await registry.update(config(), {**made, "data": {"a": "3"}})
    again = await registry.update(config(), changed)
    assert again["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]


async def test_patches_at_the_same_time_all_count(registry):
    await registry.create(config(), {"metadata": {"name": "c"}, "data": {}})
    await asyncio.gather(*(registry.patch(config(), {"data": {f"k{i}": "v"}}) for i in range(20)))
    assert len(registry.get(config())["data"]) == 20


async def test_a_status_patch_touches_only_the_status(registry):
    await registry.create(pods(), pod())
    patch = {
        "spec": {"nodeName": "x"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    changed = await registry.patch(pods(), patch, patches.STRATEGIC, subresource="status")
    assert changed["status"]["phase"] == "Running"
    assert changed["status"]["qosClass"] == "BestEffort"
    assert "nodeName" not in changed["spec"]
    assert changed["metadata"]["generation"] == 1
    again = await registry.patch(pods(), patch, patches.STRATEGIC, subresource="status")
    assert again["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]


async def test_an_update_cannot_change_the_status_but_counts_the_spec(registry):
    made = await registry.create(deployments(), deployment())
    made["status"] = {"replicas": 7}
    made["spec"]["replicas"] = 5
    changed = await registry.update(deployments(), made)
    assert changed.get("status", {}) == {}
    assert changed["metadata"]["generation"] == 2
    labelled = await registry.patch(deployments(), {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 2


async def test_a_uid_that_is_not_the_objects_is_a_conflict(registry):
    await registry.create(config(), {"metadata": {"name": "c"}})
    with pytest.raises(Conflict, match="UID in precondition"):
        await registry.delete(config(), {"preconditions": {"uid": "other"}})
    await registry.create(pods(), pod())
    with pytest.raises(Conflict, match="UID in precondition"):
        await registry.patch(pods(), {"metadata": {"uid": "x"}, "status": {}}, subresource="status")


async def test_an_unbound_pod_goes_at_once_and_a_bound_one_waits_for_its_node(registry):
    await registry.create(pods("a"), pod("a"))
    assert await registry.delete(pods("a"))
    await registry.create(pods("b"), pod("b", terminationGracePeriodSeconds=7))
    bound = await registry.bind("default", "b", "n1")
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    assert not await registry.delete(pods("b"))
    metadata = registry.get(pods("b"))["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 7
    assert await registry.delete(
        pods("b"), {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
    )
    with pytest.raises(NotFound):
        registry.get(pods("b"))


async def test_a_second_delete_only_shortens_the_grace(registry):
    await registry.create(pods(), pod())
    await registry.bind("default", "p", "n1")
    await registry.delete(pods(), {"gracePeriodSeconds": 10})
    await registry.delete(pods(), {"gracePeriodSeconds": 20})
    assert registry.get(pods())["metadata"]["deletionGracePeriodSeconds"] == 10
    await registry.delete(pods(), {"gracePeriodSeconds": 5})
    assert registry.get(pods())["metadata"]["deletionGracePeriodSeconds"] == 5


async def test_finalizers_keep_an_object_until_the_last_is_taken_away(registry):
    await registry.create(config(), {"metadata": {"name": "c", "finalizers": ["example.com/a"]}})
    assert not await registry.delete(config())
    assert "deletionTimestamp" in registry.get(config())["metadata"]
    with pytest.raises(Invalid, match="no new finalizers"):
        await registry.patch(
            config(), {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}
        )
    await registry.patch(config(), {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        registry.get(config())


async def test_foreground_and_orphan_deletion_leave_work_to_the_collector(registry):
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        name = policy.lower()
        await registry.create(deployments(name), deployment(name))
        assert not await registry.delete(deployments(name), {"propagationPolicy": policy})
        assert registry.get(deployments(name))["metadata"]["finalizers"] == [finalizer]


async def test_a_pod_is_bound_once(registry):
    await registry.create(pods(), pod())
    await registry.bind("default", "p", "n1")
    with pytest.raises(Conflict, match='already assigned to node "n1"'):
        await registry.bind("default", "p", "n2")


async def test_services_get_addresses_and_ports_that_nobody_else_has(registry):
    async def make(name, **spec):
        body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
        return await registry.create(ObjectKey("", "services", "default", name), body)

    made = [await make(f"s{i}", type="NodePort") for i in range(5)]
    assert len({one["spec"]["clusterIP"] for one in made}) == 5
    assert len({one["spec"]["ports"][0]["nodePort"] for one in made}) == 5
    taken = made[0]["spec"]["clusterIP"]
    with pytest.raises(Invalid, match="already allocated"):
        await make("thief", clusterIP=taken)
    await registry.delete(ObjectKey("", "services", "default", "s0"))
    assert (await make("heir", clusterIP=taken))["spec"]["clusterIP"] == taken
    assert (await make("headless", clusterIP="None"))["spec"]["clusterIPs"] == ["None"]
    with pytest.raises(Invalid, match="not in the valid range"):
        await make("outside", clusterIP="192.168.0.1")


async def test_a_service_keeps_its_address_through_an_update_without_it(registry):
    key = ObjectKey("", "services", "default", "s")
    made = await registry.create(
        key, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    )
    changed = await registry.update(
        key, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}}
    )
    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]


async def test_scale_sets_replicas(registry):
    await registry.create(deployments(), deployment())
    changed = await registry.scale(deployments(), lambda _: 4)
    assert changed["spec"]["replicas"] == 4
    with pytest.raises(Invalid, match="greater than or equal to 0"):
        await registry.scale(deployments(), lambda _: -1)


async def test_a_dry_run_decides_and_stores_nothing(registry):
    options = WriteOptions(dry_run=True)
    made = await registry.create(config(), {"metadata": {"name": "c"}}, options)
    assert made["metadata"]["uid"]
    with pytest.raises(NotFound):
        registry.get(config())


async def test_unknown_fields_are_dropped_warned_of_or_refused(registry):
    def body():
        return {"metadata": {"name": "c"}, "dataa": {}}

    options = WriteOptions(strict="Warn")
    made = await registry.create(config(), body(), options)
    assert options.warnings == ['unknown field "dataa"']
    assert "dataa" not in made
    with pytest.raises(BadRequest, match='strict decoding error: unknown field "dataa"'):
        await registry.create(
            config("d"), body() | {"metadata": {"name": "d"}}, WriteOptions(strict="Strict")
        )


async def test_a_collection_is_deleted_by_label(registry):
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        await registry.create(config(name), {"metadata": {"name": name, "labels": {"tier": tier}}})
    from kedge.cluster.apiserver.deletion import DeleteOptions

    assert (
        await registry.delete_collection(
            "", "configmaps", "default", DeleteOptions(), labels="tier=x"
        )
        == 2
    )
    assert [
        one["metadata"]["name"] for one in registry.list("", "configmaps", namespace="default")
    ] == ["c"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"metadata": {"name": "c", "namespace": "other"}}, BadRequest),
        ({"metadata": {"name": "c", "resourceVersion": "1"}}, BadRequest),
        ({"metadata": {"name": "c"}, "kind": "Secret"}, BadRequest),
        ({"metadata": {"name": "c"}, "apiVersion": "v2"}, BadRequest),
        ({"metadata": []}, BadRequest),
        ({"metadata": {"name": "C"}}, Invalid),
        ({"metadata": {}}, Invalid),
        ({"metadata": {"name": "c"}, "data": {"a": 1}}, BadRequest),
    ],
)
async def test_a_body_that_does_not_fit_is_refused(registry, body, error):
    with pytest.raises(error):
        await registry.create(ObjectKey("", "configmaps", "default", ""), body)
