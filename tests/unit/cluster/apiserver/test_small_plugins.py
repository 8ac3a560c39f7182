# SPDX-License-Identifier: Apache-2.0
"""Admission plugins of a few lines: default classes of Ingresses, taints of new nodes, Secrets of accounts."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api import static_pods
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.node_taint import TAINT
from kedge.errors import Forbidden

NETWORKING = "networking.k8s.io"
ACCOUNT = ObjectKey("", "serviceaccounts", "default", "default")


def pods(name: str = "web") -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    every = [{"name": "a", "image": "i", **one} for one in containers or ({},)]
    return {"metadata": {"name": "web"}, "spec": {"containers": every, **spec}}


async def make_class(registry: Any, name: str, *, default: bool) -> None:
    notes = {"ingressclass.kubernetes.io/is-default-class": str(default).lower()}
    body = {"metadata": {"name": name, "annotations": notes}, "spec": {"controller": "a.b/c"}}
    await registry.create(ObjectKey(NETWORKING, "ingressclasses", "", name), body)


async def make_ingress(registry: Any, **more: Any) -> Any:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    body = {"metadata": {"name": "in", **more}, "spec": {"defaultBackend": backend}}
    return await registry.create(ObjectKey(NETWORKING, "ingresses", "default", "in"), body)


async def test_an_ingress_gets_the_default_class(registry: Any) -> None:
    await make_class(registry, "b", default=True)
    await make_class(registry, "a", default=True)
    await make_class(registry, "other", default=False)
    made = await make_ingress(registry)
    assert made["spec"]["ingressClassName"] == "a"


async def test_an_ingress_that_names_one_the_old_way_does_not(registry: Any) -> None:
    await make_class(registry, "a", default=True)
    made = await make_ingress(registry, annotations={"kubernetes.io/ingress.class": "old"})
    assert "ingressClassName" not in made["spec"]


async def test_a_new_node_is_tainted_once(registry: Any) -> None:
    for name, given in (("n1", []), ("n2", [TAINT]), ("n3", [{"key": "x", "effect": "NoExecute"}])):
        body = {"metadata": {"name": name}, "spec": {"taints": given}}
        made = await registry.create(ObjectKey("", "nodes", "", name), body)
        assert made["spec"]["taints"].count(TAINT) == 1
        assert len(made["spec"]["taints"]) == (2 if name == "n3" else 1)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (pod(volumes=[{"name": "v", "secret": {"secretName": "other"}}]),
         'volume with secret.secretName="other" is not allowed because service account default does not reference that secret'),
        (pod({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]}),
         'container a with envVar E referencing secret.secretName="other" is not allowed because service account default '
         "does not reference that secret"),
        (pod(initContainers=[{"name": "first", "image": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]),
         'init container first with envFrom referencing secret.secretName="other" is not allowed because service account '
         "default does not reference that secret"),
        (pod(imagePullSecrets=[{"name": "other"}]),
         'imagePullSecret.name="other" is not allowed because service account default does not reference that imagePullSecret'),
    ],
)  # fmt: skip
async def test_an_account_may_name_the_secrets_that_its_pods_use(
    registry: Any, given: dict[str, Any], why: str
) -> None:
    notes = {"kubernetes.io/enforce-mountable-secrets": "true"}
    await registry.patch(
        ACCOUNT, {"metadata": {"annotations": notes}, "secrets": [{"name": "mine"}]}
    )
    with pytest.raises(Forbidden) as caught:
        await registry.create(pods(), given)
    assert str(caught.value) == f'pods "web" is forbidden: {why}'
    mine = [{"name": "v", "secret": {"secretName": "mine"}}]
    await registry.create(pods(), pod(volumes=mine))
    debug = {"name": "d", "image": "i", "envFrom": [{"secretRef": {"name": "other"}}]}
    with pytest.raises(Forbidden, match="ephemeral container d with envFrom"):
        await registry.patch(
            pods(), {"spec": {"ephemeralContainers": [debug]}}, subresource="ephemeralcontainers"
        )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "a mirror pod may not reference secrets"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
         "a mirror pod may not use ServiceAccountToken volume projections"),
    ],
)  # fmt: skip
async def test_mirror_pods_have_nothing_of_the_cluster(
    registry: Any, spec: dict[str, Any], why: str
) -> None:
    body = pod(**spec)
    body["metadata"]["annotations"] = {static_pods.MIRROR: "uid"}
    with pytest.raises(Forbidden, match=why):
        await registry.create(pods(), body)


async def test_a_pod_has_the_zone_and_region_of_its_node(registry: Any) -> None:
    zone, region = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
    labels = {zone: "z", region: "r", "topology.kubernetes.io/rack": "k", "a": "b"}
    node = ObjectKey("", "nodes", "", "n1")
    await registry.create(node, {"metadata": {"name": "n1", "labels": labels}})
    await registry.create(ObjectKey("", "nodes", "", "n2"), {"metadata": {"name": "n2"}})
    wanted = {zone: "z", region: "r"}
    await registry.create(pods(), {**pod(), "metadata": {"name": "web", "labels": {zone: "mine"}}})
    assert registry.get(pods())["metadata"]["labels"] == {zone: "mine"}
    bound = await registry.bind("default", "web", "n1")
    assert bound["metadata"]["labels"] == wanted
    for name, where, has in (("there", "n1", wanted), ("bare", "n2", None), ("lost", "gone", None)):
        body = {**pod(nodeName=where), "metadata": {"name": name}}
        made = await registry.create(pods(name), body)
        assert made["metadata"].get("labels") == has
