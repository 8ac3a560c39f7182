# SPDX-License-Identifier: Apache-2.0
"""Extended resources: what a container wants of them; pure and always loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.extended import is_extended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.edge.kubelet.pod.state import Pod


def wanted(container: dict[str, Any]) -> dict[str, int]:
    """How many of each extended resource a container is limited to; whole numbers above zero."""
    limits = (container.get("resources") or {}).get("limits") or {}
    found = {}
    for name, quantity in limits.items():
        if is_extended(name):
            from kedge.edge.kubelet.resources import resources  # noqa: PLC0415 - few pods have any

            count = resources.whole(quantity)
            if count > 0:
                found[name] = count
    return found


def containers(pod: Pod) -> Iterator[tuple[dict[str, Any], dict[str, int], bool]]:
    """Each container that wants something, what, and whether it hands it on to those that follow."""
    for one in pod["spec"].get("initContainers") or []:
        if found := wanted(one):
            yield one, found, one.get("restartPolicy") != "Always"
    for one in pod["spec"].get("containers") or []:
        if found := wanted(one):
            yield one, found, False
