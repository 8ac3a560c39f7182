# SPDX-License-Identifier: Apache-2.0
"""Answers at the pod-resources socket: which container of which pod has which devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.plugins.errors import NOT_FOUND, PluginCallError
from kedge.edge.kubelet.pod import lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.devices.manager import Devices
    from kedge.edge.kubelet.pod.state import Pod

SERVICE = "/v1.PodResourcesLister/"


def answer(
    method: str, request: dict[str, Any], pods: Iterable[Pod], devices: Devices | None
) -> dict[str, Any]:
    """The answer to one question.

    Raises:
        PluginCallError: no such pod.
    """
    match method.removeprefix(SERVICE):
        case "List":
            return {"pod_resources": [_of_pod(pod, devices) for pod in pods]}
        case "GetAllocatableResources":
            return {"devices": _allocatable(devices) if devices else []}
    name, namespace = request["pod_name"], request["pod_namespace"]
    for pod in pods:
        if (pod["metadata"]["name"], pod["metadata"]["namespace"]) == (name, namespace):
            return {"pod_resources": _of_pod(pod, devices)}
    raise PluginCallError(NOT_FOUND, f"pod {name} in namespace {namespace} not found")


def _of_pod(pod: Pod, devices: Devices | None) -> dict[str, Any]:
    metadata = pod["metadata"]
    sidecars = [one for one in lifecycle.init_containers(pod) if lifecycle.is_sidecar(one)]
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "containers": [
            {"name": one["name"], "devices": _of_container(metadata["uid"], one["name"], devices)}
            for one in [*sidecars, *lifecycle.containers(pod)]
        ],
    }


def _of_container(uid: str, name: str, devices: Devices | None) -> list[dict[str, Any]]:
    if devices is None:
        return []
    return [
        part
        for resource, ids in devices.held(uid, name).items()
        for part in _by_place(resource, ids, devices)
    ]


def _allocatable(devices: Devices) -> list[dict[str, Any]]:
    return [
        part
        for resource, endpoint in devices.endpoints.items()
        for part in _by_place(resource, sorted(endpoint.healthy()), devices)
    ]


def _by_place(resource: str, ids: list[str], devices: Devices) -> list[dict[str, Any]]:
    """Devices of one resource, those of the same NUMA nodes together."""
    endpoint = devices.endpoints.get(resource)
    places: dict[tuple[int, ...], list[str]] = {}
    for one in ids:
        places.setdefault(endpoint.nodes.get(one, ()) if endpoint else (), []).append(one)
    return [
        {
            "resource_name": resource,
            "device_ids": found,
            "topology": {"nodes": [{"id": node} for node in nodes]} if nodes else None,
        }
        for nodes, found in places.items()
    ]
