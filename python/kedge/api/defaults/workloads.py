# SPDX-License-Identifier: Apache-2.0
"""The defaults of what makes pods from templates."""

from __future__ import annotations

from typing import Any

from kedge.api.defaults import pods

Object = dict[str, Any]


def template(obj: Object) -> Object:
    """The defaults of a workload's pod template; its spec."""
    spec: Object = obj.setdefault("spec", {})
    if "template" in spec:
        spec["template"].setdefault("metadata", {})
        pods.pod_spec(spec["template"].setdefault("spec", {}))
    return spec


def deployment(obj: Object) -> None:
    """A Deployment."""
    spec = template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def replica_set(obj: Object) -> None:
    """A ReplicaSet."""
    spec = template(obj)
    spec.setdefault("replicas", 1)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def daemon_set(obj: Object) -> None:
    """A DaemonSet."""
    spec = template(obj)
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    status = obj.setdefault("status", {})
    for field in (
        "currentNumberScheduled",
        "desiredNumberScheduled",
        "numberMisscheduled",
        "numberReady",
    ):
        status.setdefault(field, 0)


def stateful_set(obj: Object) -> None:
    """A StatefulSet, with the claims that its pods get."""
    spec = template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and "rollingUpdate" in strategy:
        strategy["rollingUpdate"].setdefault("partition", 0)
        strategy["rollingUpdate"].setdefault("maxUnavailable", 1)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    for claim in spec.get("volumeClaimTemplates", ()):
        claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
        pods.claim_spec(claim.setdefault("spec", {}))
        claim.setdefault("status", {}).setdefault("phase", "Pending")
    status = obj.setdefault("status", {})
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)


def replication_controller(obj: Object) -> None:
    """A ReplicationController; without a selector it selects what it makes."""
    spec = template(obj)
    spec.setdefault("replicas", 1)
    labels = spec.get("template", {}).get("metadata", {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def controller_revision(obj: Object) -> None:
    """A ControllerRevision."""
    obj.setdefault("revision", 0)
