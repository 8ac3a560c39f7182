# SPDX-License-Identifier: Apache-2.0
"""Standards of a namespace at the registry: refusals, warnings, and what is not looked at."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.access import User
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import Forbidden, Invalid

NAMESPACE = ObjectKey("", "namespaces", "", "default")
LABEL = "pod-security.kubernetes.io/"


def client() -> WriteOptions:
    return WriteOptions(user=User("somebody", ("system:masters",)))


def pods(name: str = "web") -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "i"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


async def label(registry: Any, **labels: str | None) -> list[str]:
    """Sets a namespace's labels; the warnings."""
    options = client()
    wanted = {LABEL + name.replace("_", "-"): value for name, value in labels.items()}
    await registry.patch(NAMESPACE, {"metadata": {"labels": wanted}}, options=options)
    return options.warnings


async def test_pods_that_violate_what_is_enforced_are_refused(registry: Any) -> None:
    await label(registry, enforce="baseline", enforce_version="v1.24")
    await registry.create(pods("plain"), pod("plain"))
    with pytest.raises(Forbidden) as caught:
        await registry.create(pods(), pod(hostNetwork=True))
    assert str(caught.value) == (
        'pods "web" is forbidden: violates PodSecurity "baseline:v1.24": host namespaces (hostNetwork=true)'
    )


async def test_what_is_only_warned_of_is_made(registry: Any) -> None:
    await label(registry, warn="baseline")
    options = client()
    await registry.create(pods(), pod(hostPID=True), options)
    assert options.warnings == [
        'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    ]


async def test_workloads_are_warned_of_and_never_refused(registry: Any) -> None:
    await label(registry, enforce="baseline", warn="baseline")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod(hostIPC=True)["spec"]}
    body = {
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    options = client()
    await registry.create(ObjectKey("apps", "deployments", "default", "web"), body, options)
    assert options.warnings == [
        'would violate PodSecurity "baseline:latest": host namespaces (hostIPC=true)'
    ]


async def test_a_stricter_namespace_warns_of_pods_that_are_there(registry: Any) -> None:
    for name, spec in (("b", {"hostPID": True}), ("a", {"hostPID": True}), ("c", {})):
        await registry.create(pods(name), pod(name, **spec))
    assert await label(registry, enforce="baseline") == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
    ]
    assert await label(registry, enforce="privileged") == []


async def test_changes_that_make_no_violation_are_let_through(registry: Any) -> None:
    await registry.create(pods(), pod(hostPID=True))
    await label(registry, enforce="baseline")
    await registry.patch(pods(), {"metadata": {"labels": {"a": "b"}}})
    patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}]
    with pytest.raises(Forbidden, match="violates PodSecurity"):
        await registry.patch(pods(), patch, "application/json-patch+json")


async def test_labels_must_mean_something(registry: Any) -> None:
    with pytest.raises(Invalid) as caught:
        await label(registry, enforce="strict")
    assert str(caught.value) == (
        f'Namespace "default" is invalid: metadata.labels[{LABEL}enforce]: Invalid value: "strict": '
        "must be one of privileged, baseline, restricted"
    )
