# SPDX-License-Identifier: Apache-2.0
"""Which EndpointSlices and Endpoints a Service is to have."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api.endpoints import repack
from kedge.cluster.controllers.endpoints import hints, subsets
from kedge.cluster.controllers.endpoints.slices import MANAGER, plan
from kedge.cluster.controllers.endpoints.triggers import Triggers
from kedge.cluster.machinery import records, services
from tests.fakes import objects

Object = dict[str, Any]
WEB = {"app": "web"}


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    wanted = {"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "ports": ports, "selector": WEB}
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"tier": "one"}},
        "spec": {**wanted, **spec},
    }


def pod(number: int = 1, **fields: Any) -> records.Pod:
    status = {"ready": True, "node": "n1", **fields}
    addresses = status.pop("addresses", (f"10.1.{number // 250}.{number % 250 + 1}",))
    made = objects.pod(f"web-{number}", labels=WEB, **status)
    made.addresses = addresses
    return made


def zone_of(node: str) -> str | None:
    return {"n1": "here", "n2": ""}.get(node)


def apply(existing: list[Object], wanted: Object, pods: list[records.Pod]) -> list[Object]:
    """The slices after a turn, as the API server would hold them."""
    changes = plan(wanted, pods, zone_of, copy.deepcopy(existing))
    held = {one["metadata"]["name"]: one for one in existing}
    for one in changes.delete:
        del held[one["metadata"]["name"]]
    for one in changes.update:
        assert one["metadata"]["name"] in held
        held[one["metadata"]["name"]] = one
    for one in changes.create:
        metadata = {**one["metadata"], "name": f"web-{len(held)}-{id(one)}"}
        held[metadata["name"]] = {**one, "metadata": metadata}
    return list(held.values())


def test_an_endpoint_tells_of_its_pod():
    (made,) = apply([], service(), [pod(1)])
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert made["metadata"]["labels"] == {
        "tier": "one",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": MANAGER,
    }
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Service", "s", True)
    (endpoint,) = made["endpoints"]
    target = endpoint.pop("targetRef")
    assert (target["kind"], target["name"], target["namespace"]) == ("Pod", "web-1", "default")
    assert endpoint == {
        "addresses": ["10.1.0.2"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "n1",
        "zone": "here",
    }


@pytest.mark.parametrize(
    ("fields", "anyway", "wanted"),
    [
        ({"ready": False}, False, (False, False, False)),
        ({"ready": False}, True, (True, False, False)),
        ({"deleted": True}, False, (False, True, True)),
        ({"deleted": True}, True, (True, True, True)),
    ],
)
def test_conditions_follow_readiness_and_the_end(
    fields: Object, anyway: bool, wanted: tuple[bool, ...]
):
    (made,) = apply([], service(publishNotReadyAddresses=anyway), [pod(1, **fields)])
    conditions = made["endpoints"][0]["conditions"]
    assert tuple(conditions[name] for name in ("ready", "serving", "terminating")) == wanted


@pytest.mark.parametrize(
    "fields", [{"addresses": ()}, {"phase": "Failed"}, {"phase": "Succeeded"}, {"node": "unknown"}]
)
def test_pods_that_cannot_be_reached_are_left_out(fields: Object):
    (made,) = apply([], service(), [pod(1, **fields)])
    assert made["endpoints"] == []


def test_an_empty_slice_says_that_there_is_nothing_and_becomes_the_first():
    (empty,) = apply([], service(), [])
    assert (empty["endpoints"], empty["ports"]) == ([], [])
    assert apply([empty], service(), []) == [empty]
    (filled,) = apply([empty], service(), [pod(1)])
    assert filled["metadata"]["name"] == empty["metadata"]["name"]
    assert filled["ports"]


def test_both_families_have_slices_of_their_own():
    both = service(ipFamilies=["IPv4", "IPv6"])
    found = apply([], both, [pod(1, addresses=("10.1.0.2", "fd00:0::0002"))])
    assert {one["addressType"]: one["endpoints"][0]["addresses"] for one in found} == {
        "IPv4": ["10.1.0.2"],
        "IPv6": ["fd00::2"],
    }
    (left,) = apply(found, service(), [pod(1)])
    assert left["addressType"] == "IPv4"


def test_named_ports_are_looked_up_in_each_pod():
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"}]
    old, new = pod(1), pod(2)
    old.named_ports = (records.NamedPort("web", "TCP", 8080),)
    new.named_ports = (
        records.NamedPort("web", "UDP", 1),
        records.NamedPort("web", "TCP", 9090),
    )
    found = apply([], service(ports=ports), [old, new, pod(3)])
    assert sorted(one["ports"][0]["port"] for one in found if one["ports"]) == [8080, 9090]
    assert [len(one["endpoints"]) for one in found if not one["ports"]] == [1]


def test_pods_are_found_by_hostname_below_their_service():
    one = pod(1)
    one.host = ("first", "web")
    other = pod(2)
    other.host = ("second", "elsewhere")
    (made,) = apply([], service(clusterIP="None"), [one, other])
    assert [each.get("hostname") for each in made["endpoints"]] == ["first", None]
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


@pytest.mark.parametrize(
    ("wish", "hints"),
    [
        ("", None),
        ("PreferClose", {"forZones": [{"name": "here"}]}),
        ("PreferSameZone", {"forZones": [{"name": "here"}]}),
        ("PreferSameNode", {"forZones": [{"name": "here"}], "forNodes": [{"name": "n1"}]}),
    ],
)
def test_hints_come_and_go_with_the_wish(wish: str, hints: Object | None):
    found = apply([], service(), [pod(1)])
    found = apply(found, service(trafficDistribution=wish), [pod(1)])
    assert found[0]["endpoints"][0].get("hints") == hints
    assert "hints" not in apply(found, service(), [pod(1)])[0]["endpoints"][0]


def test_labels_of_the_service_reach_slices_that_do_not_change_otherwise():
    mine = pod(1)
    found = apply([], service(), [mine])
    changed = service()
    changed["metadata"]["labels"] = {"tier": "two"}
    (made,) = apply(found, changed, [mine])
    assert made["metadata"]["labels"]["tier"] == "two"
    assert plan(changed, [mine], zone_of, [made]).update == []


def test_slices_of_another_service_of_that_name_are_not_taken_over():
    (old,) = apply([], service(), [pod(1)])
    again = service()
    again["metadata"]["uid"] = "another"
    changes = plan(again, [pod(1)], zone_of, [old])
    assert [one["metadata"]["name"] for one in changes.delete] == [old["metadata"]["name"]]
    assert len(changes.create) == 1
    assert changes.update == []


@given(st.lists(st.sets(st.integers(0, 400), max_size=350), min_size=1, max_size=5))
def test_slices_hold_exactly_the_pods_once_and_are_never_too_full(rounds: list[set[int]]):
    held: list[Object] = []
    every = {number: pod(number) for number in set().union(*rounds)}
    for numbers in rounds:
        pods = [every[number] for number in sorted(numbers)]
        held = apply(held, service(), pods)
        sizes = [len(one["endpoints"]) for one in held]
        assert max(sizes) <= services.SLICE_SIZE
        assert len(held) == 1 or 0 not in sizes
        names = [each["targetRef"]["name"] for one in held for each in one["endpoints"]]
        assert sorted(names) == sorted(one.name for one in pods)
        again = plan(service(), pods, zone_of, held)
        assert (again.create, again.update, again.delete) == ([], [], [])


def test_one_change_among_many_writes_one_slice():
    pods = [pod(number) for number in range(250)]
    held = apply([], service(), pods)
    assert sorted(len(one["endpoints"]) for one in held) == [50, 100, 100]
    changes = plan(service(), pods[:-1], zone_of, held)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    changes = plan(service(), [*pods, pod(300)], zone_of, held)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)


# --- zones


@cache
def zoned(number: int, zone: str) -> records.Pod:
    """A pod on a node that is called as its zone; always the same one."""
    return pod(number, node=zone)


def spread(
    zones: list[str], ratios: dict[str, float] | None, held: list[Object] | None = None
) -> tuple[list[Object], str]:
    """The slices of pods that are each in a zone, and why they are not divided."""
    asking = service()
    asking["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "Auto"}
    pods = [zoned(number, zone) for number, zone in enumerate(zones)]
    changes = plan(asking, pods, lambda node: node, copy.deepcopy(held or []), ratios)
    made = [
        {**one, "metadata": {**one["metadata"], "name": str(n)}}
        for n, one in enumerate([*changes.create, *changes.update])
    ]
    return made or (held or []), changes.undivided


def for_zones(slices: list[Object]) -> list[str]:
    return [
        each["hints"]["forZones"][0]["name"] if "hints" in each else ""
        for one in slices
        for each in one["endpoints"]
    ]


def test_endpoints_are_divided_by_the_processors_of_zones():
    found, why = spread(["a", "a", "a", "b"], {"a": 0.5, "b": 0.5})
    assert (sorted(for_zones(found)), why) == (["a", "a", "b", "b"], "")
    again, _ = spread(["a", "a", "a", "b"], {"a": 0.5, "b": 0.5}, found)
    assert again == found


@pytest.mark.parametrize(
    ("zones", "ratios", "why"),
    [
        (["a", "b"], None, "Insufficient Node information"),
        (["a"], {"a": 0.5, "b": 0.5}, "Insufficient number of endpoints (1 endpoints, 2 zones)"),
        (["a", "b"], {"a": 0.9, "b": 0.1}, "Unable to allocate minimum required endpoints"),
        (["a", "a", "b", ""], {"a": 0.5, "b": 0.5}, "do not have a zone specified"),
    ],
)
def test_where_they_cannot_be_divided_nobody_is_hinted_at(
    zones: list[str], ratios: dict[str, float] | None, why: str
):
    before, _ = spread(["a", "b", "b", "a"], {"a": 0.5, "b": 0.5})
    assert "a" in for_zones(before)
    found, told = spread(zones, ratios, before)
    assert why in told
    assert told.endswith("addressType: IPv4")
    assert set(for_zones(found)) == {""}


@given(
    st.lists(st.sampled_from("abc"), min_size=3, max_size=150),
    st.lists(st.integers(1, 64), min_size=3, max_size=3),
)
def test_no_zone_gets_less_than_its_share_can_bear(zones: list[str], processors: list[int]):
    ratios = {zone: count / sum(processors) for zone, count in zip("abc", processors, strict=True)}
    found, why = spread(zones, ratios)
    counts = {zone: for_zones(found).count(zone) for zone in "abc"}
    if why:
        assert set(for_zones(found)) == {""}
    else:
        wanted = hints.allocate(len(zones), ratios)
        assert not isinstance(wanted, str)
        assert all(counts[zone] >= wanted[zone].least - 1 for zone in counts)
        assert sum(counts.values()) == len(zones)


def node(zone: str | None, cpu: str, ready: str = "True", **labels: str) -> records.Node:
    made = objects.node(f"{zone}-{cpu}", labels={**({hints.ZONE: zone} if zone else {}), **labels})
    made.allocatable, made.ready = {"cpu": int(cpu)}, ready
    return made


def test_shares_are_of_ready_nodes_that_serve():
    nodes = [node("a", "3000"), node("b", "1000"), node("c", "9000", ready="False")]
    nodes.append(node("d", "5000", **{"node-role.kubernetes.io/control-plane": ""}))
    assert hints.ratios_of(nodes) == {"a": 0.75, "b": 0.25}
    assert hints.ratios_of(nodes[:1]) is None
    assert hints.ratios_of([*nodes, node(None, "1")]) is None


# --- Endpoints


def test_endpoints_say_who_is_ready_and_who_is_not():
    made = subsets.wanted(service(), [pod(1), pod(2, ready=False)], None, "")
    assert made is not None
    (subset,) = made["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == ["10.1.0.2"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["10.1.0.3"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert made["metadata"]["labels"] == {
        "tier": "one",
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
    }


def test_endpoints_that_are_right_stay():
    mine = [pod(1), pod(2)]
    made = subsets.wanted(service(), mine, None, "")
    assert made is not None
    assert subsets.wanted(service(), mine, made, "2026-01-01T00:00:00Z") is None
    assert subsets.wanted(service(), mine[:1], made, "") is not None


def test_terminating_pods_are_only_published_when_asked_for():
    leaving = [pod(1, deleted=True)]
    assert subsets.subsets_of(service(), leaving) == []
    assert subsets.subsets_of(service(publishNotReadyAddresses=True), leaving) != []


def test_over_a_thousand_addresses_are_cut_ready_ones_first():
    many = [pod(number, ready=number < 900) for number in range(1200)]
    made = subsets.wanted(service(), many, None, "")
    assert made is not None
    (subset,) = made["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (900, 100)
    assert made["metadata"]["annotations"][subsets.OVER_CAPACITY] == "truncated"
    few = subsets.wanted(service(), many[:3], made, "")
    assert few is not None
    assert subsets.OVER_CAPACITY not in few["metadata"]["annotations"]


addresses = st.lists(st.sampled_from([{"ip": f"10.0.0.{n}"} for n in range(5)]), max_size=4)
ports = st.lists(
    st.sampled_from([{"name": f"p{n}", "port": n, "protocol": "TCP"} for n in range(1, 4)]),
    min_size=1,
    max_size=3,
)
subset = st.fixed_dictionaries(
    {"addresses": addresses, "notReadyAddresses": addresses, "ports": ports}
)


@given(st.lists(subset, max_size=5))
def test_subsets_have_one_form(given_subsets: list[Object]):
    packed = repack(given_subsets)
    assert repack(packed) == packed
    assert repack(list(reversed(given_subsets))) == packed
    assert _offers(packed) == _offers(given_subsets)


def _offers(found: list[Object]) -> dict[tuple[str, int], bool]:
    """Every address with every port, and whether it is ready there; not ready wins."""
    result: dict[tuple[str, int], bool] = {}
    for one in found:
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in one.get(field, ()):
                for port in one.get("ports") or ({"port": 0},):
                    pair = (address["ip"], port["port"])
                    result[pair] = result.get(pair, True) and ready
    return result


# --- when


def test_the_trigger_is_the_earliest_new_change():
    record = services.Service("default", "web", "s", 1, None, external=False, created=50.0)
    triggers = Triggers()
    early, late = pod(1, ready_since=100.0), pod(2, ready_since=200.0)
    assert triggers.look(record, [early]) == "1970-01-01T00:00:50Z"
    assert triggers.look(record, [early]) == ""
    assert triggers.look(record, [early, late]) == "1970-01-01T00:03:20Z"
    early.ready_since = 150.0
    late.ready_since = 300.0
    assert triggers.look(record, [early, late]) == "1970-01-01T00:02:30Z"
