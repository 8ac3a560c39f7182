# SPDX-License-Identifier: Apache-2.0
"""Rules of documents that ask whether somebody may do something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

_RESOURCE, _URL = "spec.resourceAttributes", "spec.nonResourceAttributes"


def validate(kind: str, review: Object, problems: Problems) -> None:
    """One question, about one user unless about whoever asks."""
    spec, metadata = review.get("spec", {}), review.get("metadata") or {}
    resource, url = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and url is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        problems.invalid(_URL, url, detail)
    if resource is None and url is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        problems.invalid(_RESOURCE, None, detail)
    if kind != "SelfSubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
        detail = "at least one of user or group must be specified"
        problems.invalid("spec.user", "", detail)
    for field in ("fieldSelector", "labelSelector"):
        if resource is not None and field in resource:
            _selector(f"{_RESOURCE}.{field}", resource[field], problems)
    if kind == "LocalSubjectAccessReview":
        _local(resource, url, metadata, problems)
    elif _told(metadata):
        problems.invalid("metadata", _told(metadata), "must be empty")


def _told(metadata: Object) -> Object:
    """What is said in metadata, beside who wrote it."""
    return {name: value for name, value in metadata.items() if value and name != "managedFields"}


def _local(
    resource: Object | None, url: Object | None, metadata: Object, problems: Problems
) -> None:
    namespace = metadata.get("namespace", "")
    if others := {name: value for name, value in _told(metadata).items() if name != "namespace"}:
        problems.invalid("metadata", others, "must be empty except for namespace")
    if resource is not None and resource.get("namespace", "") != namespace:
        asked = resource.get("namespace", "")
        problems.invalid(f"{_RESOURCE}.namespace", asked, "must match metadata.namespace")
    if url is not None:
        problems.invalid(_URL, url, "disallowed on this kind of request")


def _selector(path: str, selector: Object, problems: Problems) -> None:
    raw, requirements = selector.get("rawSelector"), selector.get("requirements")
    if raw and requirements:
        detail = "may not specified at the same time as requirements"
        problems.invalid(f"{path}.rawSelector", raw, detail)
    if not raw and not requirements:
        detail = "when {} is specified, requirements or rawSelector is required"
        problems.required(f"{path}.requirements", detail.format(path.rpartition(".")[2]))
