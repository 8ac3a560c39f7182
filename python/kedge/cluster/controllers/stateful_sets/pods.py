# SPDX-License-Identifier: Apache-2.0
"""The pods of a StatefulSet and their claims, as they are created. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.owners import controller_reference
from kedge.cluster.machinery.revisions import POD_LABEL

if TYPE_CHECKING:
    from kedge.cluster.controllers.stateful_sets.model import StatefulSet
    from kedge.cluster.machinery.records import Pod, Workload
    from kedge.cluster.machinery.revisions import Revision
    from kedge.cluster.machinery.wire import Object

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"


def identity(stateful_set: StatefulSet, ordinal: int) -> dict[str, str]:
    """The labels that say which member a pod is."""
    return {POD_NAME: stateful_set.pod_name(ordinal), POD_INDEX: str(ordinal)}


def pod_for(record: Workload, stored: Object, revision: Revision, ordinal: int) -> Object:
    """The pod of an ordinal.

    Args:
        record: the StatefulSet.
        stored: the same as stored.
        revision: whose template it is made from.
        ordinal: which member it is.
    """
    template = revision.template
    metadata = template.get("metadata") or {}
    name = f"{record.name}-{ordinal}"
    spec = {**(template.get("spec") or {}), "hostname": name}
    spec["subdomain"] = stored["spec"].get("serviceName") or ""
    spec["volumes"] = volumes_for(stored, ordinal, spec.get("volumes") or [])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": f"{record.name}-",
            "namespace": record.namespace,
            "labels": {
                **(metadata.get("labels") or {}),
                POD_LABEL: revision.name,
                POD_NAME: name,
                POD_INDEX: str(ordinal),
            },
            "annotations": metadata.get("annotations") or {},
            "finalizers": metadata.get("finalizers") or [],
            "ownerReferences": [controller_reference("apps/v1", "StatefulSet", record)],
        },
        "spec": {field: value for field, value in spec.items() if value not in ("", [])},
    }


def volumes_for(stored: Object, ordinal: int, volumes: list[Any]) -> list[Any]:
    """A pod's volumes: its claims, and what of its template's has not the name of one."""
    claims = claims_for(stored, ordinal)
    own = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        for volume, claim in claims.items()
    ]
    return [*own, *(each for each in volumes if each.get("name") not in claims)]


def claims_for(stored: Object, ordinal: int) -> dict[str, Object]:
    """The claims of an ordinal, by the names of their volumes."""
    metadata, spec = stored["metadata"], stored["spec"]
    selected = (spec.get("selector") or {}).get("matchLabels") or {}
    found: dict[str, Object] = {}
    for template in spec.get("volumeClaimTemplates") or ():
        own = template.get("metadata") or {}
        volume = own.get("name", "")
        found[volume] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                **own,
                "name": f"{volume}-{metadata['name']}-{ordinal}",
                "namespace": metadata["namespace"],
                "labels": {**(own.get("labels") or {}), **selected},
            },
            "spec": template.get("spec") or {},
        }
    return found


def has_identity(stateful_set: StatefulSet, ordinal: int, pod: Pod) -> bool:
    """Whether a pod is labelled as the member that it is, and uses that member's claims."""
    if pod.labels.get(POD_NAME) != pod.name:
        return False
    return set(stateful_set.claim_names(ordinal)) <= set(pod.claims)
