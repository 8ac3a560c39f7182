# SPDX-License-Identifier: Apache-2.0
"""PodTopologyLabels: a pod has the zone and region of the node that it is put on among its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.write import Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.store import Store

Object = dict[str, Any]

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_PREFIX = b'"topology.kubernetes.io/'


class PodTopologyLabels(Plugin):
    """The plugin, for pods that name their node from the start; ``bind`` asks ``of_node`` itself."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod."""
        return is_core(kind, "pods") and not subresource

    async def admit(self, write: Write) -> None:
        """Adds the labels."""
        node = write.obj["spec"].get("nodeName")
        if node:
            add(write.obj, of_node(self.store, node))


def of_node(store: Store, name: str) -> dict[str, str]:
    """The labels that pods on a node get."""
    found = store.get(ObjectKey("", "nodes", "", name))
    if found is None or _PREFIX not in found.value:
        return {}
    labels = orjson.loads(found.value)["metadata"].get("labels") or {}
    return {label: labels[label] for label in LABELS if label in labels}


def add(pod: Object, labels: dict[str, str]) -> None:
    """Puts labels on a pod, over what it says itself."""
    if labels:
        pod["metadata"].setdefault("labels", {}).update(labels)
