# SPDX-License-Identifier: Apache-2.0
"""The conditions of a pod's status, with the kubelet's types, reasons and messages; pure.

Conditions of others stay as they are. Those that readiness gates name come to the node with their
type and status only; they are read here, and never reported back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.lifecycle import format_time

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Observed, Pod, Resize

Status = dict[str, Any]

TOKEN_EXPIRED = "kedge.io/ServiceAccountTokenExpired"  # noqa: S105 - the name of a condition
"""Condition of a pod that runs with a kept, expired token until the cloud renews it."""

PENDING, GOING_ON = "PodResizePending", "PodResizeInProgress"
DISRUPTED = "DisruptionTarget"
OWN = frozenset(
    {
        PENDING,
        GOING_ON,
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        TOKEN_EXPIRED,
    }
)


def conditions(  # noqa: PLR0917 - all of it decides
    pod: Pod,
    observed: Observed,
    phase: str,
    initial: list[Status],
    regular: list[Status],
    previous: Status,
    now: float,
) -> list[Status]:
    """Every condition to report.

    Args:
        pod: the desired object.
        observed: everything known of it on this node.
        phase: the phase to report.
        initial: the statuses of its initial containers.
        regular: those of its regular ones.
        previous: the status reported last.
        now: seconds since the epoch.
    """
    found = [condition("PodReadyToStartContainers", holds=observed.sandbox() is not None)]
    found.append(_initialized(pod, observed, phase, initial))
    found += _readiness(pod, phase, initial, regular)
    earlier = {one["type"]: one for one in previous.get("conditions") or []}
    if observed.token_expired:
        text = "the kept service account token has expired; it is renewed when the cloud is back"
        found.append(condition(TOKEN_EXPIRED, holds=True, reason="CloudUnreachable", message=text))
    elif TOKEN_EXPIRED in earlier:
        found.append(condition(TOKEN_EXPIRED, holds=False, reason="Renewed"))
    not_ours = OWN | gates(pod)
    if observed.resize is not None:
        found += _resize(observed.resize)
    if observed.ended is not None and observed.ended.is_disruption:
        text = observed.ended.message
        found.append(condition(DISRUPTED, holds=True, reason="TerminationByKubelet", message=text))
        not_ours |= {DISRUPTED}
    generation = pod["metadata"].get("generation")
    for one in found:
        same = earlier.get(one["type"])
        kept = same.get("lastTransitionTime") if same and same["status"] == one["status"] else None
        one["lastTransitionTime"] = kept or format_time(now)
        if generation:
            one["observedGeneration"] = generation
    foreign = (pod.get("status") or {}).get("conditions") or []
    return found + [one for one in foreign if one["type"] not in not_ours]


def gates(pod: Pod) -> frozenset[str]:
    """The types of the conditions that the pod's readiness waits for."""
    return frozenset(one["conditionType"] for one in pod["spec"].get("readinessGates") or [])


def condition(kind: str, *, holds: bool, reason: str = "", message: str = "") -> Status:
    """One condition, without its time."""
    found: Status = {
        "type": kind,
        "status": "True" if holds else "False",
        "lastProbeTime": None,
    }
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    return found


def _resize(resize: Resize) -> list[Status]:
    found = []
    if resize.pending:
        found.append(condition(PENDING, holds=True, reason=resize.pending, message=resize.message))
    if resize.is_going_on:
        reason = "Error" if resize.error else ""
        found.append(condition(GOING_ON, holds=True, reason=reason, message=resize.error))
    return found


def _initialized(pod: Pod, observed: Observed, phase: str, initial: list[Status]) -> Status:
    if phase == "Succeeded":
        return condition("Initialized", holds=True, reason="PodCompleted")
    if lifecycle.is_initialized(pod, observed):
        return condition("Initialized", holds=True)
    names = " ".join(one["name"] for one in initial if not one["ready"])
    text = f"containers with incomplete status: [{names}]"
    return condition("Initialized", holds=False, reason="ContainersNotInitialized", message=text)


def _readiness(pod: Pod, phase: str, initial: list[Status], regular: list[Status]) -> list[Status]:
    """``Ready`` and ``ContainersReady``."""
    sidecars = {one["name"] for one in lifecycle.sidecars(pod)}
    counted = [one for one in initial if one["name"] in sidecars] + regular
    unready = [one["name"] for one in counted if not one["ready"]]
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    text = ""
    if unready and not reason:
        reason = "ContainersNotReady"
        text = f"containers with unready status: [{' '.join(unready)}]"
    if reason:
        return [
            condition(kind, holds=False, reason=reason, message=text)
            for kind in ("Ready", "ContainersReady")
        ]
    shut = _shut_gates(pod)
    if shut:
        text = ", ".join(shut)
        ready = condition("Ready", holds=False, reason="ReadinessGatesNotReady", message=text)
    else:
        ready = condition("Ready", holds=True)
    return [ready, condition("ContainersReady", holds=True)]


def _shut_gates(pod: Pod) -> list[str]:
    """Why the pod's readiness gates do not hold; empty when they do."""
    known = (pod.get("status") or {}).get("conditions") or []
    status = {one["type"]: one["status"] for one in known}
    found = []
    for one in pod["spec"].get("readinessGates") or []:
        kind = one["conditionType"]
        if kind not in status:
            text = f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            found.append(text)
        elif status[kind] != "True":
            text = f'the status of pod readiness gate "{kind}" is not "True", but {status[kind]}'
            found.append(text)
    return found
