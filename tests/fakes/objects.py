# SPDX-License-Identifier: Apache-2.0
"""Makes objects and records for tests of controllers and the scheduler."""

from __future__ import annotations

import itertools
import json
from typing import Any

from kedge.cluster.machinery import records

_numbers = itertools.count(1)


def _uid(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


def pod(
    name: str = "",
    *,
    node: str = "",
    labels: dict[str, str] | None = None,
    phase: str = "Running",
    ready: bool = False,
    ready_since: float = 0.0,
    created: str = "2026-01-01T00:00:00Z",
    owner: str = "",
    owner_kind: str = "ReplicaSet",
    requests: dict[str, Any] | None = None,
    deleted: bool = False,
    cost: int | None = None,
    restarts: int = 0,
    namespace: str = "default",
    spec: dict[str, Any] | None = None,
) -> records.Pod:
    """A pod's record, decoded from JSON as the informer does."""
    from kedge.cluster.machinery.times import text_of

    uid = _uid("pod")
    metadata: dict[str, Any] = {
        "name": name or uid,
        "namespace": namespace,
        "uid": uid,
        "labels": labels or {},
        "creationTimestamp": created,
    }
    if owner:
        metadata["ownerReferences"] = [
            {
                "uid": owner,
                "kind": owner_kind,
                "name": owner,
                "apiVersion": "apps/v1",
                "controller": True,
            }
        ]
    if deleted:
        metadata["deletionTimestamp"] = created
    if cost is not None:
        metadata["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": str(cost)}
    containers = [{"name": "c", "resources": {"requests": requests or {}}}]
    body = {
        "metadata": metadata,
        "spec": {"containers": containers, **({"nodeName": node} if node else {}), **(spec or {})},
        "status": {
            "phase": phase,
            "containerStatuses": [{"restartCount": restarts}],
            "conditions": [
                {
                    "type": "Ready",
                    "status": str(ready),
                    "lastTransitionTime": text_of(ready_since),
                }
            ],
        },
    }
    return records.pod_of(json.dumps(body).encode(), next(_numbers))


def node(
    name: str,
    *,
    labels: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    allocatable: dict[str, Any] | None = None,
    unschedulable: bool = False,
    ready: str = "True",
) -> records.Node:
    """A node's record."""
    body = {
        "metadata": {
            "name": name,
            "uid": _uid("node"),
            "labels": {"kubernetes.io/hostname": name, **(labels or {})},
        },
        "spec": {"taints": taints, "unschedulable": unschedulable},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", **(allocatable or {})},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }
    return records.node_of(json.dumps(body).encode(), next(_numbers))


def workload(
    name: str = "web",
    *,
    replicas: int = 1,
    labels: dict[str, str] | None = None,
    min_ready_seconds: int = 0,
    deleted: bool = False,
) -> records.Workload:
    """A workload's record."""
    body = {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": _uid("workload"),
            "generation": 1,
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": min_ready_seconds,
            "selector": {"matchLabels": labels or {"app": "web"}},
        },
    }
    return records.workload_of(json.dumps(body).encode(), next(_numbers))
