# SPDX-License-Identifier: Apache-2.0
"""Services: what they are given, what they keep, and what is refused."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.allocation import ADDRESSES, GROUP, PORTS
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.cluster.apiserver.registry import Registry
from kedge.errors import ApiError, Invalid
from kedge.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Object = dict[str, Any]
BOTH = "10.96.0.0/16,fd00:96::/112"


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry with addresses of both families."""
    store = Store.open(tmp_path / "both", mode="primary", durable=False)
    pump = asyncio.ensure_future(store.run())
    made = Registry(store, BOTH)
    await made.create(ObjectKey("", "namespaces", "", "default"), {"metadata": {"name": "default"}})
    yield made
    pump.cancel()
    store.close()


def key(name: str = "s") -> ObjectKey:
    return ObjectKey("", "services", "default", name)


async def make(registry: Registry, name: str = "s", **spec: Any) -> Object:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
    made: Object = await registry.create(key(name), body)
    return made


async def patch(registry: Registry, name: str = "s", **spec: Any) -> Object:
    changed: Object = await registry.patch(key(name), {"spec": spec})
    return changed


async def complaint(doing: Any) -> dict[str, str]:
    """The fields that are refused, and why."""
    with pytest.raises(Invalid) as caught:
        await doing
    causes: Any = (caught.value.details or {})["causes"]
    return {cause["field"]: cause["message"] for cause in causes}


def held(registry: Registry) -> set[str]:
    """What is marked as taken."""
    return {
        row.key.name
        for resource in (ADDRESSES, PORTS)
        for row in registry.store.list(GROUP, resource).items
    }


def has(registry: Registry) -> set[str]:
    """What Services have."""
    found: set[str] = set()
    for one in registry.list("", "services"):
        spec = one["spec"]
        found |= {ip for ip in spec.get("clusterIPs", ()) if ip != "None"}
        found |= {str(port["nodePort"]) for port in spec.get("ports", ()) if port.get("nodePort")}
        if spec.get("healthCheckNodePort"):
            found.add(str(spec["healthCheckNodePort"]))
    return found


async def test_defaults_are_those_of_a_cluster(registry: Registry):
    spec = (await make(registry))["spec"]
    address = spec["clusterIP"]
    assert spec == {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }


@pytest.mark.parametrize(
    ("spec", "families", "policy"),
    [
        ({}, ["IPv4"], "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack"),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            "RequireDualStack",
        ),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack"),
        ({"clusterIP": "fd00:96::7"}, ["IPv6"], "SingleStack"),
        ({"clusterIP": "None"}, ["IPv4", "IPv6"], "RequireDualStack"),
        ({"clusterIP": "None", "selector": {"a": "b"}}, ["IPv4"], "SingleStack"),
    ],
)
async def test_families_follow_what_is_asked_for(
    both: Registry, spec: Object, families: list[str], policy: str
):
    found = (await make(both, **spec))["spec"]
    assert (found["ipFamilies"], found["ipFamilyPolicy"]) == (families, policy)
    if found["clusterIP"] != "None":
        shown = ["IPv6" if ":" in one else "IPv4" for one in found["clusterIPs"]]
        assert shown == families
    assert held(both) == has(both)


async def test_a_second_family_comes_and_goes_by_policy(both: Registry):
    first = (await make(both))["spec"]["clusterIP"]
    spec = (await patch(both, ipFamilyPolicy="RequireDualStack"))["spec"]
    assert spec["clusterIPs"][0] == first
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    refused = await complaint(patch(both, ipFamilies=["IPv4"]))
    assert refused["spec.ipFamilyPolicy"].endswith(
        "must be 'SingleStack' to release the secondary IP family"
    )
    spec = (await patch(both, ipFamilyPolicy="SingleStack"))["spec"]
    assert (spec["clusterIPs"], spec["ipFamilies"]) == ([first], ["IPv4"])
    assert held(both) == has(both)


async def test_one_family_is_all_that_a_cluster_of_one_has(registry: Registry):
    refused = await complaint(make(registry, ipFamilyPolicy="RequireDualStack"))
    assert refused["spec.ipFamilyPolicy"] == (
        'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'
    )
    refused = await complaint(make(registry, ipFamilies=["IPv6"]))
    assert refused["spec.ipFamilies[0]"] == 'Invalid value: "IPv6": not configured on this cluster'
    assert (await make(registry, ipFamilyPolicy="PreferDualStack"))["spec"]["ipFamilies"] == [
        "IPv4"
    ]


async def test_a_new_type_lets_go_of_what_the_old_one_held(registry: Registry):
    made = await make(
        registry,
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        loadBalancerClass="example.com/one",
    )
    assert made["spec"]["healthCheckNodePort"]
    assert made["spec"]["ports"][0]["nodePort"]
    assert held(registry) == has(registry)
    spec = (await patch(registry, type="NodePort"))["spec"]
    assert not {"healthCheckNodePort", "loadBalancerClass", "allocateLoadBalancerNodePorts"} & set(
        spec
    )
    assert spec["ports"] == made["spec"]["ports"]
    spec = (await patch(registry, type="ClusterIP"))["spec"]
    assert "nodePort" not in spec["ports"][0]
    assert "externalTrafficPolicy" not in spec
    assert spec["clusterIP"] == made["spec"]["clusterIP"]
    spec = (await patch(registry, type="ExternalName", externalName="example.com"))["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(spec)
    assert held(registry) == set()
    spec = (await patch(registry, type="ClusterIP"))["spec"]
    assert spec["clusterIP"]
    assert held(registry) == has(registry)


async def test_node_ports_stay_with_the_name_of_their_port(registry: Registry):
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    made = await make(registry, type="NodePort", ports=ports)
    known = {one["name"]: one["nodePort"] for one in made["spec"]["ports"]}
    body = {
        "metadata": {"name": "s"},
        "spec": {
            "type": "NodePort",
            "ports": [{"name": "b", "port": 22}, {"name": "c", "port": 3}],
        },
    }
    ports = (await registry.update(key(), body))["spec"]["ports"]
    assert ports[0]["nodePort"] == known["b"]
    assert ports[1]["nodePort"] not in known.values()
    assert held(registry) == has(registry)


async def test_two_protocols_of_a_port_share_a_node_port(registry: Registry):
    ports = [
        {"name": "t", "port": 53, "protocol": "TCP"},
        {"name": "u", "port": 53, "protocol": "UDP"},
    ]
    made = await make(registry, type="NodePort", ports=ports)
    assert len({one["nodePort"] for one in made["spec"]["ports"]}) == 1


async def test_a_balancer_without_node_ports_takes_none(registry: Registry):
    made = await make(registry, type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    assert "nodePort" not in made["spec"]["ports"][0]


async def test_two_that_ask_for_the_same_at_once_do_not_both_get_it(registry: Registry):
    made = await asyncio.gather(
        *(make(registry, f"s{n}", clusterIP="10.96.7.7") for n in range(3)),
        return_exceptions=True,
    )
    refused = [one for one in made if isinstance(one, Invalid)]
    assert len(refused) == 2
    assert all("provided IP is already allocated" in str(one) for one in refused)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"ports": []}, "spec.ports", "Required value"),
        ({"type": "Other"}, "spec.type", "Unsupported value"),
        (
            {"type": "NodePort", "clusterIP": "None"},
            "spec.clusterIPs[0]",
            "may not be set to 'None' for NodePort services",
        ),
        (
            {"type": "ExternalName", "externalName": "a", "clusterIP": "10.96.0.7"},
            "spec.clusterIPs",
            "may not be set for ExternalName services",
        ),
        ({"type": "ExternalName"}, "spec.externalName", "Required value"),
        (
            {"ports": [{"port": 80, "nodePort": 30001}]},
            "spec.ports[0].nodePort",
            "may not be used when `type` is 'ClusterIP'",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort",
            "The range of valid ports is 30000-32767",
        ),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name", "Required value"),
        (
            {"ports": [{"port": 80, "targetPort": "not-a-port-at-all"}]},
            "spec.ports[0].targetPort",
            "must be no more than 15 characters",
        ),
        (
            {
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
            },
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "must be greater than 0 and less than 86400",
        ),
        (
            {"externalTrafficPolicy": "Local"},
            "spec.externalTrafficPolicy",
            "may only be set for externally-accessible services",
        ),
        (
            {"healthCheckNodePort": 30001},
            "spec.healthCheckNodePort",
            "may only be set when `type` is 'LoadBalancer'",
        ),
        ({"internalTrafficPolicy": "Nowhere"}, "spec.internalTrafficPolicy", "Unsupported value"),
        ({"trafficDistribution": "Far"}, "spec.trafficDistribution", "Unsupported value"),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "spec.LoadBalancerSourceRanges",
            "may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1"]},
            "spec.LoadBalancerSourceRanges[0]",
            "must be a valid CIDR value",
        ),
        (
            {"loadBalancerClass": "a"},
            "spec.loadBalancerClass",
            "may only be used when `type` is 'LoadBalancer'",
        ),
        ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", "loopback range"),
        (
            {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.8"]},
            "spec.clusterIPs",
            "first value must match `clusterIP`",
        ),
        (
            {"clusterIPs": ["10.96.0.8"]},
            "spec.clusterIPs",
            "must be empty when `clusterIP` is not specified",
        ),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies[1]", "Duplicate value"),
        ({"ipFamilyPolicy": "Any"}, "spec.ipFamilyPolicy", "Unsupported value"),
    ],
)
async def test_what_does_not_fit_is_refused_by_its_field(
    registry: Registry, spec: Object, field: str, message: str
):
    refused = await complaint(make(registry, **spec))
    assert message in refused[field]
    assert held(registry) == set()


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"clusterIP": "10.96.0.200"}, "spec.clusterIPs[0]", "may not change once set"),
        ({"loadBalancerClass": "example.com/two"}, "spec.loadBalancerClass", "may not change"),
        ({"healthCheckNodePort": 31000}, "spec.healthCheckNodePort", "field is immutable"),
    ],
)
async def test_what_was_given_out_stays(registry: Registry, spec: Object, field: str, message: str):
    await make(registry, type="LoadBalancer", externalTrafficPolicy="Local", clusterIP="10.96.0.9")
    before = held(registry)
    refused = await complaint(patch(registry, **spec))
    assert message in refused[field]
    assert held(registry) == before


async def test_a_health_check_port_that_is_taken_is_an_error_of_the_server(registry: Registry):
    await make(registry, "other", type="NodePort", ports=[{"port": 80, "nodePort": 31000}])
    with pytest.raises(ApiError, match="failed to allocate requested HealthCheck NodePort 31000"):
        await make(
            registry, type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000
        )


async def test_what_has_no_effect_is_warned_of(registry: Registry):
    options = WriteOptions(warnings=[])
    spec = {"ports": [{"port": 80}], "clusterIP": "None", "sessionAffinity": "ClientIP"}
    body = {"metadata": {"name": "s"}, "spec": {**spec, "externalName": "a"}}
    await registry.create(key(), body, options)
    assert options.warnings == [
        "spec.SessionAffinity is ignored for headless services",
        'spec.externalName is ignored when spec.type is not "ExternalName"',
    ]


async def test_a_load_balancer_says_where_it_is_reached(registry: Registry):
    await make(registry, "plain")
    await make(registry, type="LoadBalancer")

    async def write(name: str, **ingress: str) -> Object:
        status = {"status": {"loadBalancer": {"ingress": [ingress]}}}
        changed: Object = await registry.patch_status(key(name), status)
        return changed

    found = (await write("s", ip="203.0.113.1"))["status"]["loadBalancer"]["ingress"]
    assert found == [{"ip": "203.0.113.1", "ipMode": "VIP"}]
    where = "status.loadBalancer.ingress"
    for name, ingress, path in (
        ("plain", {"ip": "203.0.113.1"}, where),
        ("s", {"ip": "x"}, f"{where}[0].ip"),
        ("s", {"ipMode": "VIP"}, f"{where}[0].ipMode"),
        ("s", {"ip": "203.0.113.1", "ipMode": "Other"}, f"{where}[0].ipMode"),
        ("s", {"hostname": "203.0.113.1"}, f"{where}[0].hostname"),
    ):
        assert list(await complaint(write(name, **ingress))) == [path]
    spec = await patch(registry, type="ClusterIP")
    assert spec["status"]["loadBalancer"] == {}


async def test_whatever_happens_what_is_taken_is_what_services_have(both: Registry):
    rng = random.Random(7)
    wishes: list[Object] = [
        {"type": kind, "externalName": "example.com"}
        for kind in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
    ]
    wishes += [{"ipFamilyPolicy": one} for one in ("SingleStack", "PreferDualStack")]
    wishes += [{"externalTrafficPolicy": one} for one in ("Local", "Cluster")]
    wishes += [
        {"ports": [{"name": str(n), "port": n + 1} for n in range(count)]} for count in (1, 3)
    ]
    for name in ("a", "b", "c"):
        await make(both, name)
    done = 0
    for _ in range(150):
        name = rng.choice("abc")
        try:
            await patch(both, name, **rng.choice(wishes))
            done += 1
        except Invalid:
            pass
        assert held(both) == has(both)
    assert done > 75
    for name in ("a", "b", "c"):
        await both.delete(key(name))
    assert held(both) == set()
