# SPDX-License-Identifier: Apache-2.0
"""What quotas let through: decided purely, and charged at the registry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api import quota
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.charges import Refused, charge
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import Forbidden, Invalid

QUOTA = ObjectKey("", "resourcequotas", "default", "q")


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "i"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def asking(cpu: str, **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu}}
    return pod(containers=[{"name": "a", "image": "i", "resources": resources}], **spec)


def limited(
    hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    status = {"hard": hard, "used": used if used is not None else dict.fromkeys(hard, "0")}
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": status}


async def make(registry: Any, hard: dict[str, str], **spec: Any) -> None:
    """A quota that has been counted."""
    await registry.create(QUOTA, {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}})
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    await registry.patch_status(QUOTA, {"status": status})


def used(registry: Any) -> dict[str, str]:
    found: dict[str, str] = registry.get(QUOTA)["status"]["used"]
    return found


def key(name: str, resource: str = "pods", group: str = "") -> ObjectKey:
    return ObjectKey(group, resource, "default", name)


def test_what_exceeds_is_told_in_numbers() -> None:
    one = limited({"pods": "5", "requests.cpu": "1"}, {"pods": "1", "requests.cpu": "900m"})
    with pytest.raises(Refused) as caught:
        charge([one], quota.PODS, asking("200m"), None, 0.0)
    assert str(caught.value) == (
        "exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu=900m, limited: requests.cpu=1"
    )
    assert charge([one], quota.PODS, asking("100m"), None, 0.0) == {
        0: {"pods": "2", "requests.cpu": "1"}
    }


def test_a_quota_of_compute_wants_it_stated() -> None:
    with pytest.raises(Refused, match=r"failed quota: q: must specify limits.memory for: a"):
        charge([limited({"limits.memory": "1Gi"})], quota.PODS, pod(), None, 0.0)
    with pytest.raises(Refused, match="status unknown for quota: q, resources: pods"):
        charge([limited({"pods": "1"}, {})], quota.PODS, pod(), None, 0.0)


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({"scopes": ["BestEffort"]}, pod(), asking("1")),
        ({"scopes": ["NotBestEffort"]}, asking("1"), pod()),
        ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=0), pod()),
        ({"scopes": ["NotTerminating"]}, pod(), pod(activeDeadlineSeconds=5)),
        ({"scopes": ["Terminating", "BestEffort"]}, pod(activeDeadlineSeconds=0), asking("1", activeDeadlineSeconds=0)),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}},
         pod(priorityClassName="high"), pod(priorityClassName="low")),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}},
         pod(), pod(priorityClassName="low")),
        ({"scopes": ["CrossNamespacePodAffinity"]},
         pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaceSelector": {}}]}}), pod()),
    ],
)  # fmt: skip
def test_scopes_count_only_what_is_in_all_of_them(
    scope: dict[str, Any], inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    one = limited({"pods": "1"}, **scope)
    assert charge([one], quota.PODS, inside, None, 0.0) == {0: {"pods": "1"}}
    assert charge([one], quota.PODS, outside, None, 0.0) == {}


def test_services_and_claims_count_by_what_they_take() -> None:
    hard = {"services": "9", "services.nodeports": "9", "services.loadbalancers": "9"}
    ports = [{"port": 1}, {"port": 2, "nodePort": 30001}]
    balancer = {"metadata": {}, "spec": {"type": "LoadBalancer", "ports": ports}}
    assert charge([limited(hard)], quota.SERVICES, balancer, None, 0.0)[0] == {
        "services": "1", "services.nodeports": "2", "services.loadbalancers": "1",
    }  # fmt: skip
    plain = {"metadata": {}, "spec": {"type": "ClusterIP", "ports": ports}}
    grown = charge([limited(hard)], quota.SERVICES, balancer, plain, 0.0)[0]
    assert (grown["services"], grown["services.nodeports"]) == ("0", "2")
    by_class = "fast.storageclass.storage.k8s.io/requests.storage"
    resources = {"requests": {"storage": "1Gi"}}
    claim = {"metadata": {}, "spec": {"storageClassName": "fast", "resources": resources}}
    one = limited({by_class: "1Gi", "persistentvolumeclaims": "1", "requests.storage": "4Gi"})
    assert charge([one], quota.CLAIMS, claim, None, 0.0)[0] == {
        by_class: "1Gi", "persistentvolumeclaims": "1", "requests.storage": "1Gi",
    }  # fmt: skip


_POD = st.builds(asking, st.sampled_from(["100m", "250m", "1"]))


@given(st.lists(_POD, max_size=12), st.integers(0, 6), st.sampled_from(["0", "500m", "2"]))
def test_what_is_let_through_is_never_more_than_is_allowed(
    wanted: list[dict[str, Any]], pods: int, cpu: str
) -> None:
    from kedge.api import quantities

    one = limited({"pods": str(pods), "requests.cpu": cpu})
    made = []
    for each in wanted:
        try:
            one["status"]["used"] = charge([one], quota.PODS, each, None, 0.0)[0]
        except Refused:
            continue
        made.append(quantities.parse(each["spec"]["containers"][0]["resources"]["requests"]["cpu"]))
    assert len(made) <= pods
    assert sum(made) <= quantities.parse(cpu)
    assert one["status"]["used"]["pods"] == str(len(made))
    assert quantities.parse(one["status"]["used"]["requests.cpu"]) == sum(made)


async def test_many_creates_at_once_never_exceed_a_quota(registry: Any) -> None:
    await make(registry, {"pods": "7", "count/configmaps": "3"})
    creates = [registry.create(key(f"p{n}"), pod(f"p{n}")) for n in range(30)]
    maps = [
        registry.create(key(f"m{n}", "configmaps"), {"metadata": {"name": f"m{n}"}})
        for n in range(10)
    ]
    answers = await asyncio.gather(*creates, *maps, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, BaseException)]
    assert all(isinstance(one, Forbidden) for one in refused)
    assert len(registry.list("", "pods", namespace="default")) == 7
    assert len(registry.list("", "configmaps", namespace="default")) == 3
    assert used(registry) == {"pods": "7", "count/configmaps": "3"}
    with pytest.raises(Forbidden) as caught:
        await registry.create(key("late"), pod("late"))
    assert str(caught.value) == (
        'pods "late" is forbidden: exceeded quota: q, requested: pods=1, used: pods=7, limited: pods=7'
    )


async def test_quotas_that_change_meanwhile_are_read_again(registry: Any) -> None:
    await make(registry, {"pods": "100"})

    async def relabel() -> None:
        for number in range(20):
            await registry.patch(QUOTA, {"metadata": {"labels": {"n": str(number)}}})

    creates = [registry.create(key(f"p{n}"), pod(f"p{n}")) for n in range(20)]
    await asyncio.gather(relabel(), *creates)
    assert used(registry) == {"pods": "20"}


async def test_one_that_cannot_be_stored_takes_nobody_along(registry: Any) -> None:
    """Writes that wait together are stored together; one that fails is told so alone."""
    await make(registry, {"pods": "4"})
    await registry.create(key("there"), pod("there"))
    names = ["a", "there", "b", "b", "c"]
    answers = await asyncio.gather(
        *(registry.create(key(name), pod(name)) for name in names), return_exceptions=True
    )
    failed = [type(one).__name__ for one in answers if isinstance(one, BaseException)]
    assert failed == ["AlreadyExists", "AlreadyExists"]
    assert used(registry) == {"pods": "4"}
    assert {one["metadata"]["name"] for one in registry.list("", "pods")} == {
        "a",
        "b",
        "c",
        "there",
    }
    versions = [one["metadata"]["resourceVersion"] for one in answers if isinstance(one, dict)]
    rows = {row.key.name: str(row.revision) for row in registry.store.list("", "pods").items}
    assert versions == [rows[name] for name in ("a", "b", "c")]


async def test_what_is_not_made_is_not_charged(registry: Any) -> None:
    await make(registry, {"pods": "2"})
    await registry.create(key("web"), pod(), WriteOptions(dry_run=True))
    assert used(registry) == {"pods": "0"}
    await registry.create(key("web"), pod())
    with pytest.raises(Exception, match="already exists"):
        await registry.create(key("web"), pod())
    assert used(registry) == {"pods": "1"}


async def test_a_service_that_changes_its_type_is_charged_for_it(registry: Any) -> None:
    await make(registry, {"services.nodeports": "1"})
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    await registry.create(
        key("s", "services"), {"metadata": {"name": "s"}, "spec": {"ports": ports}}
    )
    with pytest.raises(Forbidden, match=r"requested: services.nodeports=2"):
        await registry.patch(key("s", "services"), {"spec": {"type": "NodePort"}})
    patch = {"spec": {"type": "NodePort", "ports": ports[:1]}}
    await registry.patch(key("s", "services"), patch)
    assert used(registry) == {"services.nodeports": "1"}


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({"hard": {"things": "1"}}, "spec.hard[things]", "must be a standard resource for quota"),
        ({"hard": {"pods": "-1"}}, "spec.hard[pods]", "must be greater than or equal to 0"),
        ({"hard": {"pods": "1500m"}}, "spec.hard[pods]", "must be an integer"),
        ({"hard": {"pods": "1"}, "scopes": ["Odd"]}, "spec.scopes", "unsupported scope"),
        ({"hard": {"requests.cpu": "1"}, "scopes": ["BestEffort"]}, "spec.scopes", "unsupported scope applied to resource"),
        ({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}, "spec.scopes", "conflicting scopes"),
    ],
)  # fmt: skip
async def test_quotas_that_mean_nothing_are_refused(
    registry: Any, spec: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await registry.create(QUOTA, {"metadata": {"name": "q"}, "spec": spec})
    found = [(cause["field"], cause["message"]) for cause in (caught.value.details or {})["causes"]]
    assert any(at == field and text in message for at, message in found), found


async def test_a_pod_that_grows_is_charged_and_bounded(registry: Any) -> None:
    await make(registry, {"requests.cpu": "300m"})
    item = {"type": "Container", "max": {"cpu": "250m"}}
    bounds = ObjectKey("", "limitranges", "default", "r")
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "250m"}}
    body = pod(containers=[{"name": "a", "image": "i", "resources": resources}])
    await registry.create(key("web"), body)
    await registry.create(key("other"), {**body, "metadata": {"name": "other"}})
    await registry.create(bounds, {"metadata": {"name": "r"}, "spec": {"limits": [item]}})

    def grown(requests: str, limits: str) -> dict[str, Any]:
        resources = {"requests": {"cpu": requests}, "limits": {"cpu": limits}}
        return {"spec": {"containers": [{"name": "a", "image": "i", "resources": resources}]}}

    async def resize(requests: str, limits: str = "250m") -> None:
        await registry.patch(key("web"), grown(requests, limits), subresource="resize")

    with pytest.raises(Forbidden, match="maximum cpu usage per Container is 250m"):
        await resize("100m", "300m")
    with pytest.raises(Forbidden, match=r"requested: requests\.cpu=110m, used: requests\.cpu=200m"):
        await resize("210m")
    await resize("200m")
    assert used(registry) == {"requests.cpu": "300m"}
