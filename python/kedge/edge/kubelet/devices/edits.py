# SPDX-License-Identifier: Apache-2.0
"""What plugins want of a container, put into the runtime's ``ContainerConfig``; pure."""

from __future__ import annotations

from typing import Any

from kedge.edge.kubelet.container import containers

Edits = dict[str, Any]
"""``envs``, ``mounts``, ``devices``, ``annotations``, ``cdi_devices`` as in ``ContainerAllocateResponse``."""

LISTS = ("mounts", "devices", "cdi_devices")
MAPS = ("envs", "annotations")


def merged(all_of_it: list[Edits]) -> Edits:
    """Several as one; of the same variable the first counts."""
    result: Edits = {name: {} for name in MAPS} | {name: [] for name in LISTS}
    for one in all_of_it:
        for name in MAPS:
            result[name] = (one.get(name) or {}) | result[name]
        for name in LISTS:
            result[name] += [each for each in one.get(name) or [] if each not in result[name]]
    return result


def apply(config: dict[str, Any], edits: Edits) -> dict[str, Any]:
    """A container's configuration with a plugin's edits; what the pod itself says stays."""
    own = {one["key"] for one in config["envs"]}
    envs = [{"key": key, "value": value} for key, value in edits["envs"].items() if key not in own]
    mounts = [
        containers.mount(one["host_path"], one["container_path"], read_only=one["read_only"])
        for one in edits["mounts"]
    ]
    taken = {one["container_path"] for one in config["mounts"]}
    changes: dict[str, Any] = {
        "envs": envs + config["envs"],
        "mounts": [one for one in mounts if one["container_path"] not in taken] + config["mounts"],
        "devices": [*config.get("devices", ()), *edits["devices"]],
        "annotations": edits["annotations"] | config["annotations"],
    }
    if edits["cdi_devices"]:
        changes["cdi_devices"] = edits["cdi_devices"]
    return config | changes
