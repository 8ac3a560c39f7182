# SPDX-License-Identifier: Apache-2.0
"""What ResourceQuotas name: resources, each counted on objects of one kind, and scopes. Pure.

Names are such as ``requests.cpu``, ``pods``, ``count/jobs.batch`` or
``fast.storageclass.storage.k8s.io/requests.storage``. What an object counts for is in ``usage``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Object = dict[str, Any]
Resource = tuple[str, str]
"""Group and plural name."""

COUNT = "count/"
PODS, SERVICES, CLAIMS = ("", "pods"), ("", "services"), ("", "persistentvolumeclaims")
NAMED_SCOPES = ("PriorityClass", "VolumeAttributesClass")
SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "Terminating",
    *NAMED_SCOPES,
)
COMPUTE = ("cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
_EPHEMERAL = ("ephemeral-storage", "limits.ephemeral-storage", "requests.ephemeral-storage")
_OF_PODS = frozenset({"pods", *COMPUTE, *_EPHEMERAL})
_OF_SERVICES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_OF_CLAIMS = frozenset({"persistentvolumeclaims", "requests.storage"})
CLASSIC = frozenset({"configmaps", "replicationcontrollers", "resourcequotas", "secrets"})
BY_CLASS = ".storageclass.storage.k8s.io/"
HUGE = "hugepages-"


def is_standard(name: str) -> bool:
    """Whether a name without a slash is one that quotas know."""
    return name in _OF_PODS | _OF_SERVICES | _OF_CLAIMS | CLASSIC or name.removeprefix(
        "requests."
    ).startswith(HUGE)


def is_count(name: str) -> bool:
    """Whether only whole numbers make sense for a name."""
    return name in _OF_SERVICES | CLASSIC | {"pods", "persistentvolumeclaims"}


def fits(scope: str, name: str) -> bool:
    """Whether a resource can be counted in a scope."""
    if scope == "BestEffort":
        return name == "pods"
    if scope == "VolumeAttributesClass":
        return name in _OF_CLAIMS
    return scope not in SCOPES or name == "pods" or name in COMPUTE


def counted_on(name: str) -> Resource | None:
    """Which objects a name is counted on."""
    if name.startswith(COUNT):
        resource, _, group = name.removeprefix(COUNT).partition(".")
        return group, resource
    if name in _OF_SERVICES:
        return SERVICES
    if name in _OF_CLAIMS or any(name.endswith(BY_CLASS + one) for one in _OF_CLAIMS):
        return CLAIMS
    if name in CLASSIC:
        return "", name
    if name in _OF_PODS or name.startswith((HUGE, "requests.")):
        return PODS
    return None


def names_on(resource: Resource, names: Iterable[str]) -> list[str]:
    """The names that are counted on objects of a kind."""
    return [name for name in names if counted_on(name) == resource]


def selected(spec: Object) -> list[Object]:
    """The scopes of a quota in their structured form."""
    simple = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    return simple + ((spec.get("scopeSelector") or {}).get("matchExpressions") or [])
