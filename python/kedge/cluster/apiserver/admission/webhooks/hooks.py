# SPDX-License-Identifier: Apache-2.0
"""Webhooks as configurations describe them, and which writes they want to see. Pure.

Each kind is served in one version, so that ``matchPolicy`` makes no difference here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api import selectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.cluster.apiserver.admission.write import Write

Object = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
MUTATING, VALIDATING = "mutatingwebhookconfigurations", "validatingwebhookconfigurations"
DEFAULT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of a configuration.

    Attributes:
        configuration: the configuration's name.
        name: the webhook's.
        spec: as it is written there.
    """

    configuration: str
    name: str
    spec: Object

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return (self.configuration, self.name)

    @property
    def seconds(self) -> int:
        """How long it may take."""
        return int(self.spec.get("timeoutSeconds") or DEFAULT_SECONDS)

    @property
    def may_fail(self) -> bool:
        """Whether a write goes on when it cannot be asked."""
        return self.spec.get("failurePolicy") == "Ignore"

    @property
    def is_reinvoked(self) -> bool:
        """Whether it wants to see what others made of an object that it saw."""
        return self.spec.get("reinvocationPolicy") == "IfNeeded"

    @property
    def has_side_effects(self) -> bool:
        """Whether it does things that a dry run must not do."""
        return self.spec.get("sideEffects") not in ("None", "NoneOnDryRun")


def hooks_of(configurations: Iterable[Object]) -> list[Hook]:
    """The webhooks of configurations, by the configurations' names and in their order."""
    found = []
    for one in sorted(configurations, key=lambda obj: str(obj["metadata"]["name"])):
        name = one["metadata"]["name"]
        found += [Hook(name, hook["name"], hook) for hook in one.get("webhooks") or ()]
    return found


def is_about(hook: Hook, write: Write) -> bool:
    """Whether a webhook's rules name a write."""
    return any(_matches(rule, write) for rule in hook.spec.get("rules") or ())


def selects(hook: Hook, write: Write, namespace_labels: Mapping[str, str] | None) -> bool:
    """Whether a webhook's selectors let it see a write.

    Args:
        hook: the webhook.
        write: the write.
        namespace_labels: of the namespace that it is in, or is about; None for neither.
    """
    if namespace_labels is not None:
        selector = hook.spec.get("namespaceSelector") or {}
        if not selectors.matches(selector, namespace_labels):
            return False
    selector = hook.spec.get("objectSelector") or {}
    return selectors.is_empty(selector) or any(
        obj and selectors.matches(selector, obj["metadata"].get("labels"))
        for obj in (write.obj, write.old)
    )


def _matches(rule: Object, write: Write) -> bool:
    kind = write.kind
    return (
        _has(rule.get("operations"), write.operation)
        and _has(rule.get("apiGroups"), kind.group)
        and _has(rule.get("apiVersions"), kind.version)
        and _in_scope(rule.get("scope") or "*", namespaced=kind.namespaced)
        and any(_is(one, kind.resource, write.subresource) for one in rule.get("resources") or ())
    )


def _has(allowed: Iterable[str] | None, value: str) -> bool:
    return any(one in ("*", value) for one in allowed or ())


def _in_scope(scope: str, *, namespaced: bool) -> bool:
    return scope == "*" or (scope == "Namespaced") == namespaced


def _is(wanted: str, resource: str, subresource: str) -> bool:
    name, _, below = wanted.partition("/")
    return name in ("*", resource) and below in ("*", subresource)
