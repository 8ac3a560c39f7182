# SPDX-License-Identifier: Apache-2.0
"""Which slices mirror an Endpoints object."""

from __future__ import annotations

from typing import Any

from kedge.cluster.controllers.slice_mirroring.plan import MANAGER, MAX_ENDPOINTS, plan

Object = dict[str, Any]
PORT = {"name": "db", "port": 5432, "protocol": "TCP"}


def endpoints(*subsets: Object, **metadata: Any) -> Object:
    about = {"name": "db", "namespace": "default", "uid": "e", "labels": {"a": "b"}, **metadata}
    return {"metadata": about, "subsets": list(subsets)}


def subset(*ips: str, unready: tuple[str, ...] = (), ports: tuple[Object, ...] = (PORT,)) -> Object:
    return {
        "addresses": [{"ip": ip} for ip in ips],
        "notReadyAddresses": [{"ip": ip} for ip in unready],
        "ports": list(ports),
    }


def held(slices: list[Object]) -> list[Object]:
    return [
        {**one, "metadata": {**one["metadata"], "name": f"db-{number}", "uid": str(number)}}
        for number, one in enumerate(slices)
    ]


def test_each_family_and_group_of_ports_has_a_slice():
    mirror = plan(endpoints(subset("10.0.0.1", "fd00::1", unready=("10.0.0.2",))), [])
    found = {one["addressType"]: one for one in mirror.create}
    assert set(found) == {"IPv4", "IPv6"}
    assert [each["conditions"]["ready"] for each in found["IPv4"]["endpoints"]] == [True, False]
    metadata = found["IPv4"]["metadata"]
    assert metadata["labels"] == {
        "a": "b",
        "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": MANAGER,
    }
    assert metadata["ownerReferences"][0]["kind"] == "Endpoints"
    assert found["IPv4"]["ports"] == [PORT]


def test_what_is_mirrored_already_is_left_alone():
    made = held(plan(endpoints(subset("10.0.0.1")), []).create)
    mirror = plan(endpoints(subset("10.0.0.1")), made)
    assert (mirror.create, mirror.update, mirror.delete) == ([], [], [])


def test_a_change_is_written_into_the_slice_that_is_there():
    made = held(plan(endpoints(subset("10.0.0.1")), []).create)
    other_port = {**PORT, "port": 5433}
    for wanted in (subset("10.0.0.7"), subset("10.0.0.1", ports=(other_port,))):
        mirror = plan(endpoints(wanted), made)
        assert (mirror.create, mirror.delete) == ([], [])
        assert mirror.update[0]["metadata"]["name"] == "db-0"
    labels = plan(endpoints(subset("10.0.0.1"), labels={"c": "d"}), made)
    assert labels.update[0]["metadata"]["labels"]["c"] == "d"
    assert "a" not in labels.update[0]["metadata"]["labels"]


def test_nothing_left_deletes_the_slices():
    made = held(plan(endpoints(subset("10.0.0.1")), []).create)
    assert plan(endpoints(), made).delete == made


def test_what_is_no_address_or_too_much_is_counted():
    assert plan(endpoints(subset("nonsense")), []).invalid == 1
    many = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(MAX_ENDPOINTS + 3)]
    mirror = plan(endpoints(subset(*many)), [])
    assert mirror.skipped == 3
    assert len(mirror.create[0]["endpoints"]) == MAX_ENDPOINTS


def test_annotations_are_mirrored_but_for_those_about_the_object_itself():
    told = {
        "kept": "yes",
        "endpoints.kubernetes.io/last-change-trigger-time": "x",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    (made,) = plan(endpoints(subset("10.0.0.1"), annotations=told), []).create
    assert made["metadata"]["annotations"] == {"kept": "yes"}
