# SPDX-License-Identifier: Apache-2.0
"""Which tokens a pod needs, and when they are due."""

from __future__ import annotations

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud.token_needs import needs_of, pod_of


def pod(*sources, phase="Running"):
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {
            "serviceAccountName": "seller",
            "volumes": [
                {"name": f"v{n}", "projected": {"sources": [{"serviceAccountToken": source}]}}
                for n, source in enumerate(sources)
            ]
            + [{"name": "c", "configMap": {"name": "c"}}],
        },
        "status": {"phase": phase},
    }


def test_each_audience_and_life_time_is_one_need():
    needs = needs_of(
        pod({"expirationSeconds": 3607}, {"expirationSeconds": 3607}, {"audience": "vault"})
    )
    assert [(need.audience, need.seconds) for need in needs] == [("", 3607), ("vault", 3600)]
    assert len({need.key for need in needs}) == 2


def test_a_pod_that_ended_needs_nothing():
    assert needs_of(pod({}, phase="Succeeded")) == []


def test_the_request_is_bound_to_the_pod():
    [need] = needs_of(pod({"audience": "vault", "expirationSeconds": 600}))
    spec = need.request()["spec"]
    assert spec["audiences"] == ["vault"]
    assert spec["expirationSeconds"] == 600
    assert spec["boundObjectRef"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "web",
        "uid": "u1",
    }


def test_a_token_is_due_at_four_fifths_of_its_life_or_at_once_for_another_pod():
    [need] = needs_of(pod({"expirationSeconds": 1000}))
    stored = need.to_object({"token": "t", "expirationTimestamp": "1970-01-01T01:00:00Z"})
    assert need.renew_at(stored) == 3600 - 200
    assert need.renew_at(None) == 0
    stored["spec"]["podUID"] = "u2"
    assert need.renew_at(stored) == 0


def test_a_token_leads_back_to_its_pod():
    [need] = needs_of(pod({}))
    assert pod_of(need.key) == ObjectKey("", "pods", "shop", "web")


def objects(**requests):
    """A claim bound to a volume of one driver, and CSIDrivers that want tokens."""
    found = {
        ("persistentvolumeclaims", "d", "data"): {"spec": {"volumeName": "pv"}},
        ("persistentvolumeclaims", "d", "web-e"): {"spec": {"volumeName": "pv"}},
        ("persistentvolumeclaims", "d", "pending"): {"spec": {}},
        ("persistentvolumes", "", "pv"): {"spec": {"csi": {"driver": "bound"}}},
    }
    for name, wanted in requests.items():
        found["csidrivers", "", name] = {"spec": {"tokenRequests": wanted}}
    return lambda key: found.get((key.resource, key.namespace, key.name))


def using(*volumes):
    metadata = {"name": "web", "namespace": "d", "uid": "u1"}
    return {"metadata": metadata, "spec": {"volumes": list(volumes)}}


INLINE = {"name": "i", "csi": {"driver": "inline"}}
CLAIM = {"name": "c", "persistentVolumeClaim": {"claimName": "data"}}


@pytest.mark.parametrize(
    ("volume", "audience"),
    [(INLINE, "a"), (CLAIM, "b"), ({"name": "e", "ephemeral": {}}, "b")],
)
def test_a_driver_wants_tokens_of_the_pods_that_have_its_volumes(volume, audience):
    get = objects(inline=[{"audience": "a"}], bound=[{"audience": "b", "expirationSeconds": 600}])
    [need] = needs_of(using(volume), get)
    assert (need.audience, need.seconds) == (audience, 3600 if audience == "a" else 600)
    assert need.service_account == "default"


def test_what_several_want_is_one_token_and_who_wants_none_gets_none():
    get = objects(inline=[{"audience": "a"}], bound=[{"audience": "a"}, {}])
    needs = needs_of(using(INLINE, CLAIM), get)
    assert sorted(need.audience for need in needs) == ["", "a"]
    pending = {"name": "p", "persistentVolumeClaim": {"claimName": "pending"}}
    assert needs_of(using(pending, {"name": "x", "emptyDir": {}}), get) == []
    assert needs_of(using(INLINE, CLAIM), objects()) == []
