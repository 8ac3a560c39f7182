# SPDX-License-Identifier: Apache-2.0
"""Revisions: which ReplicaSet is the present template's, and what the others are kept for. Pure.

A template's ReplicaSet is found by comparing templates, not hashes, so that a rollback to an older
template finds its ReplicaSet again and gives it the newest revision.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from kedge.cluster.controllers.deployments.model import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    REVISION,
    REVISION_HISTORY,
    TEMPLATE_HASH,
    Deployment,
    ReplicaSet,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kedge.cluster.machinery.wire import Object

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_OWN = frozenset({
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
})  # fmt: skip
_HISTORY_BYTES = 2_000


def template_hash(template: Object, collisions: int) -> str:
    """The hash of a pod template, in letters that make no words."""
    text = json.dumps(_bare(template), sort_keys=True, separators=(",", ":")) + str(
        collisions or ""
    )
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
    letters = []
    for _ in range(10):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def split(
    deployment: Deployment, all_sets: Iterable[ReplicaSet]
) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
    """The ReplicaSet of the present template, and the others, the oldest first."""
    ordered = sorted(all_sets, key=lambda each: each.age_order)
    wanted = _bare(deployment.template)
    new = next((each for each in ordered if _bare(each.stored["spec"]["template"]) == wanted), None)
    return new, [each for each in ordered if each is not new]


def new_replica_set(deployment: Deployment, old: Sequence[ReplicaSet], replicas: int) -> Object:
    """The ReplicaSet to create for the present template."""
    metadata = deployment.stored["metadata"]
    collisions = deployment.status.get("collisionCount") or 0
    digest = template_hash(deployment.template, collisions)
    template_metadata = deployment.template.get("metadata") or {}
    labels = {**(template_metadata.get("labels") or {}), TEMPLATE_HASH: digest}
    selector = deployment.stored["spec"]["selector"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment.name}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {
                **_copied(deployment),
                **_sizes(deployment),
                REVISION: str(_highest(old) + 1),
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": deployment.name,
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.min_ready_seconds,
            "selector": {
                **selector,
                "matchLabels": {**(selector.get("matchLabels") or {}), TEMPLATE_HASH: digest},
            },
            "template": {
                **deployment.template,
                "metadata": {**template_metadata, "labels": labels},
            },
        },
    }


def catch_up(
    deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]
) -> tuple[Object, str | None]:
    """What the present ReplicaSet lacks, and the Deployment's revision if it is another.

    Returns:
        A merge patch for the ReplicaSet (empty when it is right) and the revision annotation to
        give to the Deployment (None when it has it).
    """
    revision = max(new.revision, _highest(old) + 1)
    wanted = {**_copied(deployment), **_sizes(deployment), REVISION: str(revision)}
    if new.revision and new.revision != revision:
        wanted[REVISION_HISTORY] = _history(new)
    patch: Object = {}
    changed = {key: value for key, value in wanted.items() if new.annotations.get(key) != value}
    if changed:
        patch["metadata"] = {"annotations": changed}
    if (new.stored["spec"].get("minReadySeconds") or 0) != deployment.min_ready_seconds:
        patch["spec"] = {"minReadySeconds": deployment.min_ready_seconds}
    text = str(revision)
    return patch, (text if deployment.annotations.get(REVISION) != text else None)


def size_annotations(deployment: Deployment, replica_set: ReplicaSet) -> dict[str, str]:
    """The size annotations that a ReplicaSet lacks."""
    return {
        key: value
        for key, value in _sizes(deployment).items()
        if replica_set.annotations.get(key) != value
    }


def forgettable(deployment: Deployment, old: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    """Old ReplicaSets over ``revisionHistoryLimit``, of the lowest revisions."""
    if deployment.history_limit is None:
        return []
    living = [each for each in old if not each.stored["metadata"].get("deletionTimestamp")]
    excess = len(living) - deployment.history_limit
    ordered = sorted(living, key=lambda each: (each.revision, each.created))
    return [each for each in ordered[: max(excess, 0)] if each.settled]


def _bare(template: Object) -> Object:
    """A template without what the controller adds, and without empty metadata."""
    metadata: dict[str, Any] = dict(template.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    labels.pop(TEMPLATE_HASH, None)
    metadata["labels"] = labels
    kept = {key: value for key, value in metadata.items() if value}
    return {**template, "metadata": kept}


def _copied(deployment: Deployment) -> dict[str, str]:
    return {key: value for key, value in deployment.annotations.items() if key not in _OWN}


def _sizes(deployment: Deployment) -> dict[str, str]:
    return {
        DESIRED_REPLICAS: str(deployment.replicas),
        MAX_REPLICAS: str(deployment.max_replicas),
    }


def _highest(replica_sets: Iterable[ReplicaSet]) -> int:
    return max((each.revision for each in replica_sets), default=0)


def _history(replica_set: ReplicaSet) -> str:
    """The revisions that a ReplicaSet had before, with the present one added; bounded."""
    known = replica_set.annotations.get(REVISION_HISTORY, "")
    parts = [part for part in known.split(",") if part]
    parts.append(str(replica_set.revision))
    while len(",".join(parts)) > _HISTORY_BYTES:
        parts.pop(0)
    return ",".join(parts)
