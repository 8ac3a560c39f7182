# SPDX-License-Identifier: Apache-2.0
"""What a write may touch, per kind: which parts a client sets, what is set for it, what is counted.

Pure functions on decoded objects. ``prepare_create`` and ``prepare_update`` are what every kind
shares; the tables at the end hold what single kinds add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import endpoints, names
from kedge.api.meta import new_uid, timestamp
from kedge.api.validation import jobs, pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.api.kinds import Kind

Object = dict[str, Any]

_SERVER_OWNED = (
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)
_KEPT = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
)

_COLLECTIONS = ("labels", "annotations", "finalizers", "ownerReferences")


def prepare_create(kind: Kind, obj: Object) -> None:
    """Sets what the server owns, and drops what clients may not set."""
    metadata = obj["metadata"]
    for field in _SERVER_OWNED:
        metadata.pop(field, None)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = timestamp()
    if kind.has_generation:
        metadata["generation"] = 1
    else:
        metadata.pop("generation", None)
    if kind.has_status and kind.resource != "nodes":
        obj.pop("status", None)
    _tidy(metadata)


def complete_create(kind: Kind, obj: Object) -> None:
    """Sets what a kind has from the beginning, which nobody owns; its defaults are there."""
    rule = _CREATE.get((kind.group, kind.resource))
    if rule is not None:
        rule(obj)


def prepare_update(kind: Kind, new: Object, old: Object) -> None:
    """Puts back what an update of the object itself may not touch."""
    keep_metadata(new["metadata"], old["metadata"])
    if kind.has_status:
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)
    rule = _UPDATE.get((kind.group, kind.resource))
    if rule is not None:
        rule(new, old)


def keep_metadata(metadata: Object, before: Object) -> None:
    """Puts back what no update may touch in the metadata."""
    metadata.pop("selfLink", None)
    for field in _KEPT:
        if field in before:
            metadata.setdefault(field, before[field])
    metadata["resourceVersion"] = before["resourceVersion"]
    _tidy(metadata)


def _tidy(metadata: Object) -> None:
    """An empty map or list of metadata is none."""
    for field in _COLLECTIONS:
        if field in metadata and not metadata[field]:
            del metadata[field]


def count_generation(kind: Kind, new: Object, old: Object) -> None:
    """Counts changes of ``spec``."""
    if not kind.has_generation:
        return
    generation = old["metadata"].get("generation", 1)
    changed = new.get("spec") != old.get("spec")
    new["metadata"]["generation"] = generation + 1 if changed else generation


def _create_pod(pod: Object) -> None:
    pod["status"] = {"phase": "Pending", "qosClass": pods.qos_class(pod.get("spec", {}))}


def narrow(subresource: str, new: Object, old: Object) -> Object:
    """The old object with only what this subresource covers, and who owns what, taken from the new one."""
    if subresource in ("", "scale"):
        return new
    metadata = dict(old["metadata"])
    if "managedFields" in new["metadata"]:
        metadata["managedFields"] = new["metadata"]["managedFields"]
    old = {**old, "metadata": metadata}
    if subresource == "finalize":
        return {**old, "spec": new.get("spec", {})}
    if subresource == "status":
        return {**old, "status": new.get("status") or {}}
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if subresource == "ephemeralcontainers":
        return {
            **old,
            "spec": {**before, "ephemeralContainers": spec.get("ephemeralContainers") or []},
        }
    changed = dict(before)
    for field in ("containers", "initContainers"):
        wanted = {one.get("name"): one.get("resources") for one in spec.get(field) or ()}
        policies = {one.get("name"): one.get("resizePolicy") for one in spec.get(field) or ()}
        if field in before:
            changed[field] = [
                {
                    **one,
                    **({"resources": wanted[one["name"]] or {}} if one["name"] in wanted else {}),
                    **(
                        {"resizePolicy": policies[one["name"]]} if policies.get(one["name"]) else {}
                    ),
                }
                for one in before[field]
            ]
    if "resources" in before or "resources" in spec:
        changed["resources"] = spec.get("resources") or {}
    return {**old, "spec": changed}


def _create_namespace(namespace: Object) -> None:
    spec = namespace.setdefault("spec", {})
    finalizers = spec.setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")


def _create_claim(claim: Object) -> None:
    claim["status"] = {"phase": "Pending"}
    _protect(claim, "kubernetes.io/pvc-protection")


def _create_volume(volume: Object) -> None:
    volume["status"] = {"phase": "Pending"}
    _protect(volume, "kubernetes.io/pv-protection")


def _protect(obj: Object, finalizer: str) -> None:
    """StorageObjectInUseProtection: what is in use stays until it is not."""
    finalizers = obj["metadata"].setdefault("finalizers", [])
    if finalizer not in finalizers:
        finalizers.append(finalizer)


def _create_job(job: Object) -> None:
    """A Job selects by its own uid, unless it says that it selects by itself."""
    spec, metadata = job.setdefault("spec", {}), job["metadata"]
    if spec.get("manualSelector"):
        return
    about = spec.setdefault("template", {}).setdefault("metadata", {})
    labels = about.setdefault("labels", {})
    for key in jobs.NAME_LABELS:
        labels.setdefault(key, metadata.get("name", ""))
    for key in jobs.UID_LABELS:
        labels.setdefault(key, metadata["uid"])
    if not metadata.get("labels"):
        metadata["labels"] = labels
    selected = spec.setdefault("selector", {}).setdefault("matchLabels", {})
    selected.setdefault(jobs.UID_LABELS[1], metadata["uid"])


def rename(kind: Kind, obj: Object, name: str) -> None:
    """Gives an object that was prepared another generated name, also where its kind repeats it."""
    metadata = obj["metadata"]
    before, metadata["name"] = metadata.get("name", ""), name
    if (kind.group, kind.resource) != ("batch", "jobs") or not before:
        return
    for labels in (metadata.get("labels"), obj["spec"]["template"]["metadata"].get("labels")):
        for key in jobs.NAME_LABELS:
            if labels is not None and labels.get(key) == before:
                labels[key] = name


def warnings(kind: Kind, obj: Object) -> list[str]:
    """What is legal in a new object and may still surprise."""
    if kind.group != "batch":
        return []
    complaint = names.label(obj["metadata"]["name"])
    if not complaint:
        return []
    text = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior"
    return [f"{text}; a DNS label is recommended: [{complaint}]"]


def _update_namespace(new: Object, old: Object) -> None:
    new["spec"] = old.get("spec", {})


def _create_slice(obj: Object) -> None:
    obj["metadata"]["generation"] = 1


def _update_slice(new: Object, old: Object) -> None:
    """Slices have no spec: what is not their metadata, and their labels and annotations, count."""
    before = old["metadata"].get("generation", 1)
    new["metadata"]["generation"] = before if _counted(new) == _counted(old) else before + 1


def _counted(obj: Object) -> Object:
    metadata = obj["metadata"]
    kept = {
        name: value
        for name, value in metadata.items()
        if name not in ("generation", "managedFields", "resourceVersion")
    }
    return {**obj, "metadata": kept}


def canonicalize(kind: Kind, obj: Object) -> None:
    """Writes a valid object in the one form in which two of its kind can be compared."""
    if kind.resource == "endpoints" and not kind.group and obj.get("subsets"):
        obj["subsets"] = endpoints.repack(obj["subsets"])


def _create_signing_request(request: Object) -> None:
    request["status"] = {}


def _update_signing_request(new: Object, old: Object) -> None:
    new["spec"] = old["spec"]


_CREATE: dict[tuple[str, str], Callable[[Object], None]] = {
    ("", "pods"): _create_pod,
    ("", "namespaces"): _create_namespace,
    ("", "persistentvolumeclaims"): _create_claim,
    ("", "persistentvolumes"): _create_volume,
    ("certificates.k8s.io", "certificatesigningrequests"): _create_signing_request,
    ("discovery.k8s.io", "endpointslices"): _create_slice,
    ("batch", "jobs"): _create_job,
}
_UPDATE: dict[tuple[str, str], Callable[[Object, Object], None]] = {
    ("", "namespaces"): _update_namespace,
    ("certificates.k8s.io", "certificatesigningrequests"): _update_signing_request,
    ("discovery.k8s.io", "endpointslices"): _update_slice,
}
