# SPDX-License-Identifier: Apache-2.0
"""How many pods an owner wants, whatever kind it is of."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import scales
from kedge.cluster.machinery.wire import OwnerReference
from kedge.errors import NoScale

Object = dict[str, Any]


class Stored:
    """A client that has these objects."""

    def __init__(self, **objects: Object) -> None:
        self._objects = objects

    def get(self, key: ObjectKey) -> Object | None:
        return self._objects.get(key.resource)


def stored(uid: str, replicas: int | None = 3, owner: Object | None = None) -> Object:
    metadata: Object = {"name": "web", "namespace": "default", "uid": uid}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"metadata": metadata, "spec": {} if replicas is None else {"replicas": replicas}}


def wanted(api_version: str, kind: str, uid: str, **objects: Object) -> tuple[str, int] | None:
    owner = OwnerReference(uid=uid, kind=kind, name="web", api_version=api_version)
    client: Any = Stored(**objects)
    return scales.wanted_by(client, owner, "default")


def test_a_set_of_a_deployment_wants_what_that_does():
    above = {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": True,
    }  # fmt: skip
    mine = stored("r", 2, above)
    assert wanted("apps/v1", "ReplicaSet", "r", replicasets=mine, deployments=stored("d", 5)) == (
        "d",
        5,
    )
    assert wanted("apps/v1", "ReplicaSet", "r", replicasets=mine) == ("r", 2)
    assert wanted("apps/v1", "ReplicaSet", "other", replicasets=mine) is None
    assert wanted("v1", "ReplicationController", "c", replicationcontrollers=stored("c")) == (
        "c",
        3,
    )


def test_kinds_without_a_scale_are_named():
    with pytest.raises(NoScale, match=r"daemonsets\.apps does not implement the scale subresource"):
        wanted("apps/v1", "DaemonSet", "d")
    with pytest.raises(NoScale, match=r'no matches for kind "Game" in version "example\.com/v1"'):
        wanted("example.com/v1", "Game", "g")


def test_a_scale_is_that_of_the_subresource():
    kind = scales.kind_of("apps/v1beta2", "Deployment")
    assert kind is not None
    found = stored("d", 4) | {"status": {"replicas": 2}}
    found["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    client: Any = Stored(deployments=found)
    scale = scales.read(client, kind, "default", "web")
    assert scale is not None
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 2, "selector": "app=web"}
    assert scales.read(client, kinds.of("", "pods"), "default", "web") is None
