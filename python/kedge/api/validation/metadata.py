# SPDX-License-Identifier: Apache-2.0
"""Rules on metadata, the same for every kind but for how the name must look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]
NameRule = Callable[[str], str]

MAX_ANNOTATIONS = 256 * 1024
"""Bytes that all annotations of an object may have together."""
NAME_RULES: dict[tuple[str, str], NameRule] = {
    ("", "namespaces"): names.label,
    ("", "services"): names.label,
    ("apps", "statefulsets"): names.label,
    ("certificates.k8s.io", "certificatesigningrequests"): names.path_segment,
    ("certificates.k8s.io", "clustertrustbundles"): names.path_segment,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): names.path_segment,
    ("rbac.authorization.k8s.io", "clusterroles"): names.path_segment,
    ("rbac.authorization.k8s.io", "rolebindings"): names.path_segment,
    ("rbac.authorization.k8s.io", "roles"): names.path_segment,
}
IMMUTABLE = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


TIMES = ("creationTimestamp", "deletionTimestamp")
"""Clients write ``+00:00`` for ``Z``; both are RFC 3339."""


def validate(metadata: Object, group: str, resource: str, problems: Problems) -> None:
    """Names, labels, annotations, owners and finalizers."""
    rule = NAME_RULES.get((group, resource), names.subdomain)
    name = metadata.get("name", "")
    if not name:
        problems.required("metadata.name", "name or generateName is required")
    elif complaint := names.path_segment(name) or rule(name):
        problems.invalid("metadata.name", name, complaint)
    if "labels" in metadata:
        labels(metadata["labels"], "metadata.labels", problems)
    if "annotations" in metadata:
        annotation_map(metadata["annotations"], "metadata.annotations", problems)
    if "ownerReferences" in metadata:
        _owners(metadata["ownerReferences"], problems)
    for index, finalizer in enumerate(metadata.get("finalizers", ())):
        problems.text(f"metadata.finalizers[{index}]", finalizer, names.qualified(finalizer))


def labels(values: dict[str, str], path: str, problems: Problems) -> None:
    """Keys and values of labels."""
    for key, value in values.items():
        if complaint := names.qualified(key):
            problems.invalid(path, key, complaint)
        if complaint := names.label_value(value):
            problems.invalid(path, value, complaint)


def annotation_map(values: dict[str, str], path: str, problems: Problems) -> None:
    """Keys of annotations, and the size of all together."""
    total = 0
    for key, value in values.items():
        total += len(key) + len(value)
        if complaint := names.qualified(key.lower()):
            problems.invalid(path, key, complaint)
    if total > MAX_ANNOTATIONS:
        problems.too_long(path, MAX_ANNOTATIONS)


def _owners(owners: list[Object], problems: Problems) -> None:
    controllers = 0
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                problems.required(f"{path}.{field}", "must not be empty")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        problems.invalid(
            "metadata.ownerReferences",
            controllers,
            "Only one reference can have Controller set to true",
        )


def _is_same_moment(one: Any, other: str) -> bool:
    try:
        return datetime.fromisoformat(str(one)) == datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """What of metadata never changes by a write; a time in another spelling becomes the stored one."""
    for field in TIMES:
        if field in old and _is_same_moment(new.get(field), old[field]):
            new[field] = old[field]
    for field in IMMUTABLE:
        problems.immutable(f"metadata.{field}", old.get(field), new.get(field))
    if "deletionTimestamp" in old:
        added = set(new.get("finalizers", ())) - set(old.get("finalizers", ()))
        if added:
            problems.forbidden(
                "metadata.finalizers",
                f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}",
            )
