# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api import defaults, names, validation
from kedge.api.kinds import find
from kedge.errors import Invalid

GROUP = "networking.k8s.io"


def checked(resource, **spec):
    obj = {"metadata": {"name": "a", "namespace": "default"}, "spec": spec}
    defaults.apply(GROUP, resource, obj)
    validation.validate(find(GROUP, resource), obj)
    return obj


def causes(resource, **spec):
    with pytest.raises(Invalid) as caught:
        checked(resource, **spec)
    return {cause["field"]: cause["message"] for cause in caught.value.details["causes"]}


def ingress(**path):
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    one = {"path": "/", "pathType": "Prefix", "backend": backend, **path}
    return {"rules": [{"http": {"paths": [one]}}]}


def rule(**peer):
    return {"ingress": [{"from": [peer]}]}


def test_a_policy_is_for_what_its_rules_are_about():
    assert checked("networkpolicies")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    made = checked("networkpolicies", egress=[{"ports": [{"port": 53}]}])["spec"]
    assert made["policyTypes"] == ["Ingress", "Egress"]
    assert made["egress"][0]["ports"] == [{"port": 53, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("port", "field", "message"),
    [
        ({"port": 0}, "port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        ({"port": 80, "endPort": 70}, "endPort", "must be greater than or equal to `port`"),
        ({"port": "web", "endPort": 70}, "endPort", "when `port` is non-numeric"),
        ({"endPort": 70}, "endPort", "when `port` is not specified"),
        ({"port": "a--b"}, "port", "must not contain consecutive hyphens"),
        ({"port": 1, "protocol": "ICMP"}, "protocol", "Unsupported value"),
    ],
)
def test_ports_of_a_policy_are_ports(port, field, message):
    found = causes("networkpolicies", ingress=[{"ports": [port]}])
    assert message in found[f"spec.ingress[0].ports[0].{field}"]


def test_a_peer_is_one_of_what_it_can_be():
    where = "spec.ingress[0].from[0]"
    assert causes("networkpolicies", **rule()) == {where: "Required value: must specify a peer"}
    both = causes("networkpolicies", **rule(podSelector={}, ipBlock={"cidr": "10.0.0.0/8"}))
    assert both == {where: "Forbidden: may not specify both ipBlock and another peer"}
    checked("networkpolicies", **rule(podSelector={}, namespaceSelector={}))
    checked("networkpolicies", **rule(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}))
    for outside in ("11.0.0.0/16", "10.0.0.0/8", "fd00::/64"):
        found = causes(
            "networkpolicies", **rule(ipBlock={"cidr": "10.0.0.0/8", "except": [outside]})
        )
        assert "must be a strict subset of `cidr`" in found[f"{where}.ipBlock.except[0]"], outside
    for wrong in ("10.0.0.0", "10.0.0.0/64", "x/8"):
        found = causes("networkpolicies", **rule(ipBlock={"cidr": wrong}))
        assert "must be a valid CIDR value" in found[f"{where}.ipBlock.cidr"], wrong


def test_a_policy_has_two_types_at_most():
    found = causes("networkpolicies", policyTypes=["Ingress", "Egress", "Ingress"])
    assert "may not specify more than two policyTypes" in found["spec.policyTypes"]
    assert (
        "Unsupported value" in causes("networkpolicies", policyTypes=["X"])["spec.policyTypes[0]"]
    )


def test_an_ingress_leads_somewhere():
    checked("ingresses", **ingress())
    checked("ingresses", defaultBackend={"resource": {"kind": "Bucket", "name": "b"}})
    found = causes("ingresses")
    assert "either `defaultBackend` or `rules` must be specified" in found["spec"]
    path = "spec.rules[0].http.paths[0]"
    assert causes("ingresses", **ingress(backend={})).keys() == {f"{path}.backend"}
    unnamed = {"service": {"name": "web", "port": {}}}
    assert causes("ingresses", **ingress(backend=unnamed)) == {
        f"{path}.backend.service": "Required value: port name or number is required"
    }
    twice = {"service": {"name": "web", "port": {"name": "a", "number": 1}}}
    found = causes("ingresses", **ingress(backend=twice))
    assert "cannot set both port name & port number" in found[f"{path}.backend.service"]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"pathType": None}, "pathType", "Required value: pathType must be specified"),
        ({"pathType": "Regex"}, "pathType", "Unsupported value"),
        ({"path": "x"}, "path", "must be an absolute path"),
        ({"path": "/a//b"}, "path", "must not contain '//'"),
        ({"path": "/a/.."}, "path", "cannot end with '/..'"),
    ],
)
def test_paths_of_an_ingress_are_plain(change, field, message):
    assert (
        message in causes("ingresses", **ingress(**change))[f"spec.rules[0].http.paths[0].{field}"]
    )


def test_hosts_of_an_ingress_are_names():
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    checked("ingresses", defaultBackend=backend, rules=[{"host": "*.example.com"}])
    for host, message in (("10.0.0.1", "not an IP address"), ("a.*.b", "subdomain")):
        found = causes("ingresses", defaultBackend=backend, rules=[{"host": host}])
        assert message in found["spec.rules[0].host"]


def test_a_class_says_where_its_settings_are():
    parameters = {"kind": "K", "name": "n"}
    made = checked("ingressclasses", controller="example.com/x", parameters=parameters)
    assert made["spec"]["parameters"]["scope"] == "Cluster"
    assert causes("ingressclasses", controller="x").keys() == {"spec.controller"}
    assert causes("ingressclasses") == {"spec.controller": "Required value"}
    found = causes(
        "ingressclasses",
        controller="example.com/x",
        parameters={"kind": "K", "name": "n", "scope": "Namespace"},
    )
    assert found.keys() == {"spec.parameters.namespace"}
    moved = {"metadata": made["metadata"], "spec": {**made["spec"], "controller": "example.com/y"}}
    with pytest.raises(Invalid, match="field is immutable"):
        validation.validate_update(find(GROUP, "ingressclasses"), moved, made)


@pytest.mark.parametrize("name", ["web", "a", "http-80"])
def test_names_of_ports(name):
    assert names.port(name) == ""


@pytest.mark.parametrize("name", ["80", "a--b", "-a", "a-", "Web", "x" * 16, ""])
def test_what_is_no_name_of_a_port(name):
    assert names.port(name) != ""
