# SPDX-License-Identifier: Apache-2.0
"""Rules of roles, their bindings, runtime classes and priority classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
MAX_USER_PRIORITY = 1_000_000_000
SYSTEM_PREFIX = "system-"


def validate_role(obj: Object, problems: Problems) -> None:
    """Each rule has verbs, and resources of groups; a namespace has no paths."""
    _rules(obj, problems, allows_urls=False)


def validate_cluster_role(obj: Object, problems: Problems) -> None:
    """The same; paths that are no resources may be named here."""
    _rules(obj, problems, allows_urls=True)


def _rules(obj: Object, problems: Problems, *, allows_urls: bool) -> None:
    for index, rule in enumerate(obj.get("rules") or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            problems.required(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if not allows_urls:
                detail = "namespaced rules cannot apply to non-resource URLs"
                problems.invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
            elif rule.get("resources"):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                problems.invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
            continue
        if not rule.get("apiGroups"):
            detail = "resource rules must supply at least one api group"
            problems.required(f"{path}.apiGroups", detail)
        if not rule.get("resources"):
            problems.required(
                f"{path}.resources", "resource rules must supply at least one resource"
            )


def validate_role_binding(obj: Object, problems: Problems) -> None:
    """Refers to a role, of the namespace or of the cluster."""
    _binding(obj, ("ClusterRole", "Role"), problems)


def validate_cluster_role_binding(obj: Object, problems: Problems) -> None:
    """Refers to a role of the cluster."""
    _binding(obj, ("ClusterRole",), problems)


def _binding(obj: Object, kinds: tuple[str, ...], problems: Problems) -> None:
    role = obj.get("roleRef", {})
    problems.choice("roleRef.apiGroup", role.get("apiGroup"), (GROUP,))
    problems.choice("roleRef.kind", role.get("kind"), kinds)
    if not role.get("name"):
        problems.required("roleRef.name")
    for index, subject in enumerate(obj.get("subjects") or ()):
        _subject(subject, f"subjects[{index}]", obj["metadata"], problems)


def _subject(subject: Object, path: str, metadata: Object, problems: Problems) -> None:
    name, kind = subject.get("name", ""), subject.get("kind")
    if not name:
        problems.required(f"{path}.name")
    problems.choice(f"{path}.kind", kind, ("Group", "ServiceAccount", "User"))
    if kind == "ServiceAccount":
        if name:
            problems.text(f"{path}.name", name, names.subdomain(name))
        problems.choice(f"{path}.apiGroup", subject.get("apiGroup", ""), ("",))
        if not subject.get("namespace") and not metadata.get("namespace"):
            problems.required(f"{path}.namespace")
    else:
        problems.choice(f"{path}.apiGroup", subject.get("apiGroup"), (GROUP,))


def validate_binding_update(new: Object, old: Object, problems: Problems) -> None:
    """Whom a binding is for changes; what it gives does not."""
    if new.get("roleRef") != old.get("roleRef"):
        problems.invalid("roleRef", new.get("roleRef"), "cannot change roleRef")


def validate_runtime_class(obj: Object, problems: Problems) -> None:
    """Names a handler of the container runtime."""
    handler = obj.get("handler", "")
    problems.text("handler", handler, names.label(handler))


def validate_runtime_class_update(new: Object, old: Object, problems: Problems) -> None:
    """The handler stays."""
    problems.immutable("handler", old.get("handler"), new.get("handler"))


def validate_priority_class(obj: Object, problems: Problems) -> None:
    """Users stay below what is the system's."""
    value = obj.get("value", 0)
    name = obj["metadata"].get("name", "")
    if name.startswith(SYSTEM_PREFIX) and name not in (
        "system-cluster-critical",
        "system-node-critical",
    ):
        detail = "priority class names with 'system-' prefix are reserved for system use only"
        problems.forbidden("metadata.name", detail)
    elif value > MAX_USER_PRIORITY and not name.startswith(SYSTEM_PREFIX):
        detail = f"maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}"
        problems.forbidden("value", detail)
    problems.choice(
        "preemptionPolicy", obj.get("preemptionPolicy"), ("Never", "PreemptLowerPriority")
    )


def validate_priority_class_update(new: Object, old: Object, problems: Problems) -> None:
    """Pods have its value already."""
    for field in ("value", "preemptionPolicy"):
        if new.get(field) != old.get(field):
            problems.forbidden(field, "may not be changed in an update.")
