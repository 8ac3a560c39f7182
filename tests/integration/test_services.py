# SPDX-License-Identifier: Apache-2.0
"""What Services lead to, with the controllers over a store and kubelets that run nothing."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cluster.controllers import Config
from tests.fakes.control_plane import MERGE, ControlPlane, key

Object = dict[str, Any]
OWN = "192.0.2.7"


@pytest.fixture
def controller_config() -> Config:
    return Config(ca_pem="CA", address=OWN, port=6443)


async def make(plane: ControlPlane, name: str = "web", **spec: Any) -> Object:
    wanted = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    body = {"metadata": {"name": name}, "spec": wanted}
    made: Object = await plane.registry.create(key("services", name), body)
    return made


def slices(plane: ControlPlane, name: str = "web") -> list[Object]:
    found = plane.all("endpointslices", "default")
    return [one for one in found if one["metadata"]["labels"]["kubernetes.io/service-name"] == name]


def behind(plane: ControlPlane, name: str = "web") -> set[str]:
    """The addresses in slices."""
    return {
        address
        for one in slices(plane, name)
        for each in one.get("endpoints") or ()
        for address in each["addresses"]
    }


def listed(plane: ControlPlane, name: str = "web") -> set[str]:
    """The addresses in Endpoints."""
    found = plane.get("endpoints", name) or {}
    return {
        one["ip"] for subset in found.get("subsets") or () for one in subset.get("addresses", ())
    }


async def test_pods_of_a_deployment_come_and_go_behind_a_service(plane: ControlPlane):
    await plane.node("n1", labels={"topology.kubernetes.io/zone": "here"})
    await make(plane)
    await plane.until(lambda: len(slices(plane)) == 1)
    await plane.deploy(replicas=3)
    await plane.until(lambda: len(behind(plane)) == 3 and len(listed(plane)) == 3)
    assert behind(plane) == listed(plane)
    (one,) = slices(plane)
    assert {each["zone"] for each in one["endpoints"]} == {"here"}
    assert one["metadata"]["generation"] > 1
    await plane.registry.patch(key("deployments", "web"), {"spec": {"replicas": 1}}, MERGE)
    await plane.until(lambda: len(behind(plane)) == 1 and len(listed(plane)) == 1)


async def test_a_pod_with_other_labels_leaves(plane: ControlPlane):
    await plane.node("n1")
    await make(plane)
    await plane.deploy(replicas=2)
    await plane.until(lambda: len(behind(plane)) == 2)
    gone = plane.ready()[0]
    patch = {"metadata": {"labels": {"app": "other"}}}
    await plane.registry.patch(key("pods", gone["metadata"]["name"]), patch, MERGE)
    await plane.until(lambda: gone["status"]["podIP"] not in behind(plane))
    await plane.until(lambda: gone["status"]["podIP"] not in listed(plane))


async def test_slices_go_with_their_service_and_come_back_when_somebody_deletes_them(
    plane: ControlPlane,
):
    await make(plane)
    await plane.until(lambda: slices(plane))
    await plane.registry.delete(key("endpointslices", slices(plane)[0]["metadata"]["name"]))
    await plane.registry.delete(key("endpoints", "web"))
    await plane.until(lambda: slices(plane) and plane.get("endpoints", "web"))
    await plane.registry.delete(key("services", "web"))
    await plane.until(lambda: not slices(plane) and not plane.get("endpoints", "web"))


async def test_endpoints_without_a_selector_are_mirrored(plane: ControlPlane):
    await make(plane, "db", selector=None)
    subset = {"addresses": [{"ip": "10.9.8.7"}], "ports": [{"port": 5432}]}
    body = {"metadata": {"name": "db"}, "subsets": [subset]}
    await plane.registry.create(key("endpoints", "db"), body)
    await plane.until(lambda: behind(plane, "db") == {"10.9.8.7"})
    await plane.registry.patch(key("endpoints", "db"), {"subsets": None}, MERGE)
    await plane.until(lambda: not slices(plane, "db"))


async def test_the_own_service_leads_to_the_api_server_whatever_somebody_writes(
    plane: ControlPlane,
):
    await plane.until(lambda: behind(plane, "kubernetes") == {OWN})
    assert listed(plane, "kubernetes") == {OWN}
    await plane.registry.delete(key("endpointslices", "kubernetes"))
    patch = {"subsets": [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 1}]}]}
    await plane.registry.patch(key("endpoints", "kubernetes"), patch, MERGE)
    await plane.until(lambda: behind(plane, "kubernetes") == {OWN})
    await plane.until(lambda: listed(plane, "kubernetes") == {OWN})
