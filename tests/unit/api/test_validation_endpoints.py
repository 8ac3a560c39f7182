# SPDX-License-Identifier: Apache-2.0
"""Rules of Endpoints and EndpointSlices, by the paths that they name."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api import defaults
from kedge.api.kinds import find
from kedge.api.validation import validate
from kedge.errors import Invalid

Object = dict[str, Any]


def complaints(group: str, resource: str, body: Object) -> dict[str, str]:
    kind = find(group, resource)
    assert kind is not None
    obj = {"metadata": {"name": "web", "namespace": "default"}, **body}
    defaults.apply(group, resource, obj)
    try:
        validate(kind, obj)
    except Invalid as error:
        causes: Any = (error.details or {})["causes"]
        return {cause["field"]: cause["message"] for cause in causes}
    return {}


def of_slice(**body: Any) -> dict[str, str]:
    return complaints("discovery.k8s.io", "endpointslices", {"addressType": "IPv4", **body})


def of_subset(**subset: Any) -> dict[str, str]:
    body = {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], **subset}]}
    return complaints("", "endpoints", body)


@pytest.mark.parametrize(
    ("kind", "address", "path", "message"),
    [
        ("IPv4", "x", "endpoints[0].addresses[0]", "must be a valid IP address"),
        ("IPv4", "fd00::1", "endpoints[0].addresses", "must be an IPv4 address"),
        ("IPv6", "10.0.0.1", "endpoints[0].addresses", "must be an IPv6 address"),
        ("IPv4", "0.0.0.0", "endpoints[0].addresses[0]", "may not be unspecified"),
        ("IPv4", "127.0.0.1", "endpoints[0].addresses[0]", "loopback range"),
        ("IPv4", "169.254.1.1", "endpoints[0].addresses[0]", "link-local range"),
        ("IPv4", "224.0.0.5", "endpoints[0].addresses[0]", "link-local multicast range"),
        ("FQDN", "local", "endpoints[0].addresses[0]", "at least two segments"),
    ],
)
def test_an_address_of_a_slice_leads_somewhere(kind: str, address: str, path: str, message: str):
    found = of_slice(addressType=kind, endpoints=[{"addresses": [address]}])
    assert message in found[path]


def test_slices_that_are_right_pass():
    endpoint = {
        "addresses": ["10.0.0.1"],
        "nodeName": "n1",
        "hostname": "first",
        "hints": {"forZones": [{"name": "here"}], "forNodes": [{"name": "n1"}]},
    }
    ports = [{"name": "a", "port": 1, "appProtocol": "kubernetes.io/h2c"}, {"port": 2}]
    assert of_slice(endpoints=[endpoint], ports=ports) == {}


def test_slices_are_bounded():
    many = [{"addresses": ["10.0.0.1"]}] * 1001
    assert of_slice(endpoints=many) == {"endpoints": "Too many: 1001: must have at most 1000 items"}
    zones = [{"name": f"z{n}"} for n in range(9)]
    found = of_slice(endpoints=[{"addresses": ["10.0.0.1"], "hints": {"forZones": zones}}])
    assert found == {"endpoints[0].hints.forZones": "Too many: 9: must have at most 8 items"}


def test_ports_of_slices_have_names_of_their_own():
    found = of_slice(ports=[{"name": "a"}, {"name": "a", "protocol": "HTTP"}])
    assert set(found) == {"ports[1].name", "ports[1].protocol"}


def test_subsets_have_addresses_and_several_ports_have_names():
    assert of_subset() == {}
    assert set(of_subset(addresses=[])) == {"subsets[0]"}
    found = of_subset(ports=[{"port": 1}, {"name": "b", "port": 70000}])
    assert set(found) == {"subsets[0].ports[0].name", "subsets[0].ports[1].port"}


def test_addresses_of_subsets_are_addresses():
    found = of_subset(
        addresses=[{"ip": "127.0.0.1"}, {"ip": "x"}, {"ip": "10.0.0.1", "nodeName": "-"}]
    )
    assert set(found) == {
        "subsets[0].addresses[0].ip",
        "subsets[0].addresses[1].ip",
        "subsets[0].addresses[2].nodeName",
    }
