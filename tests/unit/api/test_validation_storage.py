# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest

from kedge.api import defaults, validation
from kedge.api.kinds import find
from kedge.errors import Invalid

RBAC = "rbac.authorization.k8s.io"


def fields_of(caught):
    return {cause["field"] for cause in caught.value.details["causes"]}


def refused(group, resource, obj):
    with pytest.raises(Invalid) as caught:
        validation.validate(find(group, resource), obj)
    return fields_of(caught)


def change_refused(group, resource, new, old):
    with pytest.raises(Invalid) as caught:
        validation.validate_update(find(group, resource), new, old)
    return fields_of(caught)


def claim(**spec):
    obj = {
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
    }
    defaults.apply("", "persistentvolumeclaims", obj)
    return obj


def volume(**spec):
    obj = {
        "metadata": {"name": "v"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            **({"hostPath": {"path": "/d"}} if "local" not in spec else {}),
            **spec,
        },
    }
    defaults.apply("", "persistentvolumes", obj)
    return obj


def binding(kind, **fields):
    obj = {
        "metadata": {"name": "b:1", "namespace": "default"},
        "roleRef": {"kind": kind, "name": "r"},
        **fields,
    }
    defaults.apply(RBAC, "rolebindings", obj)
    return obj


def test_a_defaulted_claim_and_volume_are_valid():
    validation.validate(find("", "persistentvolumeclaims"), claim())
    validation.validate(find("", "persistentvolumes"), volume())


def test_a_claim_wants_a_size_and_a_mode():
    assert refused("", "persistentvolumeclaims", claim(resources={}, accessModes=[])) == {
        "spec.accessModes",
        "spec.resources[storage]",
    }
    zero = claim(resources={"requests": {"storage": "0"}})
    assert refused("", "persistentvolumeclaims", zero) == {"spec.resources[storage]"}


def test_a_claim_is_bound_once_and_may_only_grow():
    old = claim()
    new = copy.deepcopy(old)
    new["spec"]["resources"]["requests"]["storage"] = "3Gi"
    assert change_refused("", "persistentvolumeclaims", new, old) == {"spec"}, "it is not bound"
    new = copy.deepcopy(old)
    new["spec"]["volumeName"] = "v"
    validation.validate_update(find("", "persistentvolumeclaims"), new, old)
    again = copy.deepcopy(new)
    again["spec"]["volumeName"] = "w"
    assert change_refused("", "persistentvolumeclaims", again, new) == {"spec"}


@pytest.mark.parametrize(("size", "is_refused"), [("512Mi", True), ("1Gi", True), ("2Gi", False)])
def test_a_bound_claim_that_asked_for_too_much_may_take_back_some(size, is_refused):
    old = claim(volumeName="v", resources={"requests": {"storage": "3Gi"}})
    old["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    new = copy.deepcopy(old)
    new["spec"]["resources"]["requests"]["storage"] = size
    if is_refused:
        wanted = {"spec.resources.requests.storage"}
        assert change_refused("", "persistentvolumeclaims", new, old) == wanted
    else:
        validation.validate_update(find("", "persistentvolumeclaims"), new, old)


def test_a_volume_has_exactly_one_source_and_keeps_it():
    bare = volume()
    del bare["spec"]["hostPath"]
    assert refused("", "persistentvolumes", bare) == {"spec"}
    assert refused("", "persistentvolumes", volume(nfs={"server": "s", "path": "/"})) == {
        "spec.nfs"
    }
    local = volume(local={"path": "/d"})
    assert refused("", "persistentvolumes", local) == {"spec.nodeAffinity"}
    moved = copy.deepcopy(volume())
    moved["spec"]["hostPath"]["path"] = "/e"
    assert change_refused("", "persistentvolumes", moved, volume()) == {
        "spec.persistentvolumesource"
    }


def test_a_role_needs_verbs_and_resources_and_no_paths_in_a_namespace():
    role = {
        "metadata": {"name": "r", "namespace": "default"},
        "rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
        ],
    }
    assert refused(RBAC, "roles", role) == {"rules[1].verbs", "rules[2].nonResourceURLs"}


def test_a_binding_gets_its_group_and_keeps_its_role():
    good = binding("Role", subjects=[{"kind": "User", "name": "u"}])
    validation.validate(find(RBAC, "rolebindings"), good)
    assert good["subjects"][0]["apiGroup"] == good["roleRef"]["apiGroup"] == RBAC
    other = {**good, "roleRef": {**good["roleRef"], "name": "s"}}
    assert change_refused(RBAC, "rolebindings", other, good) == {"roleRef"}
    bad = binding("Pod", subjects=[{"kind": "ServiceAccount", "name": "Not A Name"}])
    assert refused(RBAC, "rolebindings", bad) == {"roleRef.kind", "subjects[0].name"}


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("system-mine", 1, {"metadata.name"}),
        ("mine", 1_000_000_001, {"value"}),
    ],
)
def test_priorities_of_the_system_are_the_systems(name, value, where):
    obj = {"metadata": {"name": name}, "value": value}
    defaults.apply("scheduling.k8s.io", "priorityclasses", obj)
    assert refused("scheduling.k8s.io", "priorityclasses", obj) == where


def test_addresses_of_a_slice_are_of_its_type():
    obj = {
        "metadata": {"name": "s", "namespace": "default"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}, {"addresses": []}],
    }
    assert refused("discovery.k8s.io", "endpointslices", obj) == {
        "endpoints[1].addresses",
        "endpoints[2].addresses",
    }


def test_a_trust_bundle_is_named_after_its_signer():
    obj = {
        "metadata": {"name": "mine"},
        "spec": {
            "signerName": "example.com/ca",
            "trustBundle": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        },
    }
    assert refused("certificates.k8s.io", "clustertrustbundles", obj) == {"metadata.name"}
    obj["metadata"]["name"] = "example.com:ca:mine"
    validation.validate(find("certificates.k8s.io", "clustertrustbundles"), obj)
