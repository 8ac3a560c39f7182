# SPDX-License-Identifier: Apache-2.0
"""Rules of pods as a whole; those of containers and volumes are in modules of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names, quantities
from kedge.api.validation import containers, isolation, metadata, volumes

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
NODE_OPERATORS = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
UPDATE_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate(obj: Object, problems: Problems) -> None:
    """A pod."""
    validate_spec(obj.get("spec", {}), "spec", problems)


def validate_spec(spec: Object, path: str, problems: Problems) -> None:
    """A pod's spec, also one in a template."""
    volume_names = volumes.validate(spec.get("volumes", ()), f"{path}.volumes", problems)
    containers.validate_all(spec, path, volume_names, problems)
    isolation.validate(spec, path, problems)
    problems.choice(f"{path}.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES)
    problems.choice(f"{path}.dnsPolicy", spec.get("dnsPolicy"), DNS_POLICIES)
    for field, rule in _NAMES:
        if spec.get(field):
            problems.text(f"{path}.{field}", spec[field], rule(spec[field]))
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        detail = "must be greater than or equal to 0"
        problems.invalid(
            f"{path}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"], detail
        )
    if "activeDeadlineSeconds" in spec and not 1 <= spec["activeDeadlineSeconds"] < 1 << 31:
        problems.invalid(
            f"{path}.activeDeadlineSeconds",
            spec["activeDeadlineSeconds"],
            "must be between 1 and 2147483647, inclusive",
        )
    if "nodeSelector" in spec:
        metadata.labels(spec["nodeSelector"], f"{path}.nodeSelector", problems)
    for index, toleration in enumerate(spec.get("tolerations", ())):
        _toleration(toleration, f"{path}.tolerations[{index}]", problems)
    if "affinity" in spec:
        _affinity(spec["affinity"], f"{path}.affinity", problems)
    for index, constraint in enumerate(spec.get("topologySpreadConstraints", ())):
        _spread(constraint, f"{path}.topologySpreadConstraints[{index}]", problems)


_NAMES = (
    ("serviceAccountName", names.subdomain),
    ("nodeName", names.subdomain),
    ("hostname", names.label),
    ("subdomain", names.label),
)


def _toleration(toleration: Object, path: str, problems: Problems) -> None:
    key, operator, effect = (
        toleration.get("key", ""),
        toleration.get("operator", "Equal"),
        toleration.get("effect"),
    )
    if key:
        problems.text(f"{path}.key", key, names.qualified(key))
    elif operator not in ("Exists",):
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        problems.invalid(f"{path}.operator", operator, detail)
    problems.choice(f"{path}.operator", operator, ("Equal", "Exists", "Gt", "Lt"))
    if operator == "Exists" and toleration.get("value"):
        problems.invalid(
            f"{path}.operator", toleration, "value must be empty when `operator` is 'Exists'"
        )
    if effect:
        problems.choice(f"{path}.effect", effect, EFFECTS)
    if "tolerationSeconds" in toleration and effect not in ("NoExecute", None, ""):
        problems.invalid(
            f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"
        )


def _affinity(affinity: Object, path: str, problems: Problems) -> None:
    node = affinity.get("nodeAffinity", {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    where = f"{path}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    if required is not None:
        terms = required.get("nodeSelectorTerms", [])
        if not terms:
            problems.required(where, "must have at least one node selector term")
        for index, term in enumerate(terms):
            _node_term(term, f"{where}[{index}]", problems)
    preferred = f"{path}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution"
    for index, one in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution", ())):
        if not 1 <= one.get("weight", 0) <= 100:
            problems.invalid(
                f"{preferred}[{index}].weight", one.get("weight", 0), "must be in the range 1-100"
            )
        _node_term(one.get("preference", {}), f"{preferred}[{index}].preference", problems)


def _node_term(term: Object, path: str, problems: Problems) -> None:
    for index, one in enumerate(term.get("matchExpressions", ())):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = one.get("operator"), one.get("values", [])
        problems.text(f"{where}.key", one.get("key", ""), names.qualified(one.get("key", "")))
        if operator not in NODE_OPERATORS:
            problems.invalid(f"{where}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not values:
            problems.required(
                f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"
            )
        elif operator in ("Gt", "Lt") and len(values) != 1:
            problems.required(
                f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"
            )
        elif operator in ("Exists", "DoesNotExist") and values:
            problems.forbidden(
                f"{where}.values",
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )


def _spread(constraint: Object, path: str, problems: Problems) -> None:
    if constraint.get("maxSkew", 0) < 1:
        problems.invalid(
            f"{path}.maxSkew", constraint.get("maxSkew", 0), "must be greater than zero"
        )
    if not constraint.get("topologyKey"):
        problems.required(f"{path}.topologyKey", "can not be empty")
    problems.choice(
        f"{path}.whenUnsatisfiable",
        constraint.get("whenUnsatisfiable"),
        ("DoNotSchedule", "ScheduleAnyway"),
    )


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """A pod's spec hardly changes once it is there."""
    before, after = dict(old.get("spec", {})), dict(new.get("spec", {}))
    for field in ("containers", "initContainers"):
        if len(before.get(field, ())) != len(after.get(field, ())):
            problems.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return
        before[field], after[field] = _without_images(before, field), _without_images(after, field)
    _deadline(
        before.pop("activeDeadlineSeconds", None),
        after.pop("activeDeadlineSeconds", None),
        problems,
    )
    had, has = before.pop("tolerations", []), after.pop("tolerations", [])
    if any(one not in has for one in had):
        problems.forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        )
    if not before.get("nodeName") and "schedulingGates" in before:
        before.pop("schedulingGates")
        after.pop("schedulingGates", None)
    if before != after:
        problems.forbidden("spec", UPDATE_RULE)


def _without_images(spec: Object, field: str) -> list[Object]:
    return [
        {key: value for key, value in one.items() if key != "image"} for one in spec.get(field, ())
    ]


def _deadline(before: int | None, after: int | None, problems: Problems) -> None:
    if before is not None and after is None:
        problems.invalid(
            "spec.activeDeadlineSeconds",
            after,
            "must not update from a positive integer to nil value",
        )
    elif before is not None and after is not None and after > before:
        problems.invalid(
            "spec.activeDeadlineSeconds", after, "must be less than or equal to previous value"
        )


EPHEMERAL_FORBIDDEN = (
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "restartPolicy",
    "startupProbe",
)


def validate_ephemeral(new: Object, old: Object, problems: Problems) -> None:
    """Ephemeral containers are added, and stay as they are."""
    path = "spec.ephemeralContainers"
    spec = new.get("spec", {})
    added = spec.get("ephemeralContainers") or []
    before = {one["name"]: one for one in old.get("spec", {}).get("ephemeralContainers") or ()}
    after = {one.get("name", ""): one for one in added}
    for name in before.keys() - after.keys():
        detail = f"existing ephemeral containers {name!r} may not be removed"
        problems.forbidden(path, detail)
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            problems.forbidden(path, f"existing ephemeral containers {name!r} may not be changed")
    volume_names = {one.get("name", "") for one in spec.get("volumes", ())}
    containers.validate_ephemeral(spec, path, volume_names, problems)
    for index, one in enumerate(added):
        for field in EPHEMERAL_FORBIDDEN:
            if one.get(field):
                problems.forbidden(
                    f"{path}[{index}].{field}", "cannot be set for an Ephemeral Container"
                )
        target = one.get("targetContainerName")
        if target and target not in {own["name"] for own in spec.get("containers", ())}:
            problems.not_found(f"{path}[{index}].targetContainerName", target)


def validate_resize(new: Object, old: Object, problems: Problems) -> None:
    """Only cpu and memory of containers and of the pod itself change, and the quality of service stays."""
    before, after = old.get("spec", {}), new.get("spec", {})
    whole = before.get("resources") or {}, after.get("resources") or {}
    changed = whole[0] != whole[1]
    if changed and not whole[0]:
        problems.forbidden("spec.resources", "cannot be added to a pod that was made without")
    elif changed:
        _only_cpu_and_memory(*whole, "spec.resources", problems)
    for field in ("containers", "initContainers"):
        for index, (was, now) in enumerate(
            zip(before.get(field, ()), after.get(field, ()), strict=True)
        ):
            path = f"spec.{field}[{index}].resources"
            if was.get("resources") == now.get("resources"):
                continue
            changed = True
            if field == "initContainers" and now.get("restartPolicy") != "Always":
                problems.forbidden(path, "resources for non-sidecar init containers are immutable")
            _only_cpu_and_memory(
                was.get("resources") or {}, now.get("resources") or {}, path, problems
            )
    if changed and (old.get("status") or {}).get("qosClass") != qos_class(after):
        problems.invalid(
            "spec", qos_class(after), "Pod QOS Class may not change as a result of resizing"
        )


def _only_cpu_and_memory(was: Object, now: Object, path: str, problems: Problems) -> None:
    for part in ("limits", "requests"):
        before, after = was.get(part) or {}, now.get(part) or {}
        for name in before.keys() | after.keys():
            if name not in ("cpu", "memory") and before.get(name) != after.get(name):
                problems.forbidden(f"{path}.{part}", "only cpu and memory resources are mutable")
        for name in before.keys() - after.keys():
            problems.forbidden(f"{path}.{part}", f"resource {part} cannot be removed: {name}")
    if was.get("claims") != now.get("claims"):
        problems.forbidden(f"{path}.claims", "only cpu and memory resources are mutable")


def qos_class(spec: Object) -> str:
    """A pod's quality of service, from what its containers request and may use."""
    guaranteed, anything = True, False
    every = (*spec.get("initContainers", ()), *spec.get("containers", ()))
    own = spec.get("resources")
    for container in ({"resources": own},) if own else every:
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        for name in ("cpu", "memory"):
            request, limit = _amount(requests, name), _amount(limits, name)
            anything = anything or bool(request) or bool(limit)
            guaranteed = guaranteed and bool(limit) and request == limit
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _amount(amounts: Object, name: str) -> Any:
    return quantities.parse(amounts[name]) if name in amounts else 0


def validate_status(status: Object, problems: Problems) -> None:
    """A pod's status, as far as others rely on it."""
    if "phase" in status:
        problems.choice("status.phase", status["phase"], PHASES)
