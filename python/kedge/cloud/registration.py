# SPDX-License-Identifier: Apache-2.0
"""What becomes of a node's registration: the labels and annotations of its Node, reconciled.

Joining made the Node; one that is gone was deleted, and its node does not bring it back. A node says what it is; it does not decide what it may be. Labels and annotations in reserved
domains are dropped, taints count only at the first registration (afterwards they are the
administrators'), and KubeEdge's two role labels are added. Pure.
"""

from __future__ import annotations

from typing import Any

from kedge.cloud import names

RESERVED = ("node-restriction.kubernetes.io/", "kedge.io/")
"""Keys that a node cannot give itself (the first is NodeRestriction's)."""
ROLE = "node-role.kubernetes.io/"
MAX_ENTRIES = 128


def register(reported: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The merge patch to apply; empty for no change.

    Args:
        reported: the Node as its agent describes it.
        current: the Node in the API.
    """
    metadata = reported.get("metadata") or {}
    labels = _allowed(metadata.get("labels")) | names.EDGE_LABELS
    annotations = _allowed(metadata.get("annotations"))
    taints = [] if _is_registered(current) else _taints(reported)
    changes: dict[str, Any] = {}
    for field, wanted in (("labels", labels), ("annotations", annotations)):
        known = current["metadata"].get(field) or {}
        if change := {key: value for key, value in wanted.items() if known.get(key) != value}:
            changes[field] = change
    patch = {"metadata": changes} if changes else {}
    if taints:
        known_taints = (current.get("spec") or {}).get("taints") or []
        patch["spec"] = {"taints": known_taints + [t for t in taints if t not in known_taints]}
    return patch


def _is_registered(node: dict[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return names.EDGE_LABELS.keys() <= labels.keys()


def _allowed(entries: Any) -> dict[str, str]:
    if not isinstance(entries, dict):
        return {}
    allowed = {
        str(key): str(value)
        for key, value in entries.items()
        if not str(key).startswith((*RESERVED, ROLE))
    }
    return dict(list(allowed.items())[:MAX_ENTRIES])


def _taints(reported: dict[str, Any]) -> list[Any]:
    taints = (reported.get("spec") or {}).get("taints")
    return taints[:MAX_ENTRIES] if isinstance(taints, list) else []
