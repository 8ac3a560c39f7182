# SPDX-License-Identifier: Apache-2.0
"""Rules of StatefulSets and of ControllerRevisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names
from kedge.api.validation import pods, storage, workloads

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

POLICIES = ("OrderedReady", "Parallel")
STRATEGIES = ("RollingUpdate", "OnDelete")
RETENTION = ("Delete", "Retain")
MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
"""What of a spec may change."""
_COUNTED = (
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
)
_ROLLING = "spec.updateStrategy.rollingUpdate"


def validate(obj: Object, problems: Problems) -> None:
    """A StatefulSet: how pods are managed and updated, their template and their claims."""
    spec = obj.get("spec", {})
    _one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), POLICIES, problems)
    _update_strategy(spec.get("updateStrategy", {}), problems)
    retention = spec.get("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        path = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
        problems.choice(path, retention.get(field), RETENTION)
    for index, claim in enumerate(spec.get("volumeClaimTemplates", ())):
        path = f"spec.volumeClaimTemplates[{index}].spec"
        storage.validate_claim_spec(claim.get("spec", {}), path, problems)
    for field in ("replicas", "minReadySeconds"):
        workloads.not_negative(spec, field, problems)
    workloads.not_negative(spec.get("ordinals", {}), "start", problems, part="spec.ordinals")
    service = spec.get("serviceName")
    if service:
        problems.text("spec.serviceName", service, names.label(service))
    workloads.selector_of(spec.get("selector"), "statefulset", problems)
    template = spec.get("template", {})
    workloads.template_metadata(template, spec.get("selector"), problems)
    pods.validate_spec(_with_claims(spec, template), "spec.template.spec", problems)
    workloads.always_running(template.get("spec", {}), "StatefulSet", problems)


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """Identity, claims and the way pods are managed never change."""
    before, after = old.get("spec", {}), new.get("spec", {})
    fixed = (before.keys() | after.keys()) - set(MUTABLE)
    if any(before.get(field) != after.get(field) for field in fixed):
        listed = ", ".join(f"'{field}'" for field in MUTABLE[:-1])
        problems.forbidden(
            "spec",
            f"updates to statefulset spec for fields other than {listed} and '{MUTABLE[-1]}' are forbidden",
        )


def validate_status(status: Object, problems: Problems) -> None:
    """Counts are not negative, and no part is more than the whole."""
    for field in (*_COUNTED, "observedGeneration", "collisionCount"):
        workloads.not_negative(status, field, problems, part="status")
    for field in _COUNTED[1:]:
        if status.get(field, 0) > status.get("replicas", 0):
            problems.invalid(
                f"status.{field}", status.get(field, 0), "cannot be greater than status.replicas"
            )
    if status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
        problems.invalid(
            "status.availableReplicas",
            status.get("availableReplicas", 0),
            "cannot be greater than status.readyReplicas",
        )


def validate_revision(obj: Object, problems: Problems) -> None:
    """A ControllerRevision holds something, and has a number."""
    if obj.get("data") is None:
        problems.required("data", "data is mandatory")
    if obj.get("revision", 0) < 0:
        problems.invalid("revision", obj["revision"], "must be greater than or equal to 0")


def validate_revision_update(new: Object, old: Object, problems: Problems) -> None:
    """What a revision holds is history."""
    problems.immutable("data", old.get("data"), new.get("data"))


def _update_strategy(strategy: Object, problems: Problems) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if not kind:
        problems.required("spec.updateStrategy")
    elif kind not in STRATEGIES:
        problems.invalid("spec.updateStrategy", strategy, _must_be(STRATEGIES))
    elif rolling is None:
        return
    elif kind == "OnDelete":
        problems.invalid(_ROLLING, rolling, "only allowed for updateStrategy 'RollingUpdate'")
    else:
        workloads.not_negative(rolling, "partition", problems, part=_ROLLING)
        if "maxUnavailable" in rolling:
            _max_unavailable(rolling["maxUnavailable"], problems)


def _max_unavailable(value: Any, problems: Problems) -> None:
    path = f"{_ROLLING}.maxUnavailable"
    workloads.amount(value, path, problems)
    text = str(value).removesuffix("%")
    number = int(text) if text.isdecimal() else 0
    if number == 0:
        problems.invalid(path, value, "cannot be 0")
    if type(value) is str and number > 100:
        problems.invalid(path, value, "must not be greater than 100%")


def _one_of(path: str, value: Any, allowed: tuple[str, str], problems: Problems) -> None:
    if not value:
        problems.required(path)
    elif value not in allowed:
        problems.invalid(path, value, _must_be(allowed))


def _must_be(allowed: tuple[str, str]) -> str:
    return f"must be '{allowed[0]}' or '{allowed[1]}'"


def _with_claims(spec: Object, template: Object) -> Object:
    """The spec of the template with a volume for every claim that pods get."""
    of_pods = template.get("spec", {})
    claims = [
        claim.get("metadata", {}).get("name", "") for claim in spec.get("volumeClaimTemplates", ())
    ]
    if not claims:
        return dict(of_pods)
    kept = [one for one in of_pods.get("volumes", ()) if one.get("name") not in claims]
    added = [{"name": name, "persistentVolumeClaim": {"claimName": "claim"}} for name in claims]
    return {**of_pods, "volumes": [*kept, *added]}
