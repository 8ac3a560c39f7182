# SPDX-License-Identifier: Apache-2.0
"""Whether this node takes a pod at all, decided once, before anything of it is made.

As in the kubelet, a pod that is not taken is Failed for good, with the reason in its status and an
Event; its owner makes another one. A pod that already runs here was admitted and stays so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge.edge.kubelet.container.security import APPARMOR_ANNOTATION
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.state import Ended

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.tools import Tools

APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


class Rejection(NamedTuple):
    """Why the node ended a pod, in words of its status."""

    reason: str
    message: str


def admit(pod: Pod, tools: Tools, *, is_new: bool = True) -> Ended | None:
    """Why the pod is not taken; None when it is. Pressure on the node keeps out only new ones."""
    found = _operating_system(pod) or _sysctls(pod, tools) or _app_armor(pod)
    found = found or _groups(pod, tools) or (_pressure(pod, tools) if is_new else None)
    found = found or tools.host_ports.claim(pod)
    if found is None:
        return None
    tools.recorder.pod(pod, found.reason, found.message, warning=True)
    return Ended(found.reason, f"Pod was rejected: {found.message}", is_disruption=False)


def restored(status: dict[str, Any]) -> Ended | None:
    """What an earlier agent decided, from the status that it reported."""
    if status.get("phase") != "Failed" or not status.get("reason"):
        return None
    if status["reason"] == "DeadlineExceeded":
        return None
    kinds = {one["type"] for one in status.get("conditions") or []}
    message = status.get("message", "")
    return Ended(status["reason"], message, is_disruption="DisruptionTarget" in kinds)


def _pressure(pod: Pod, tools: Tools) -> Rejection | None:
    why = tools.refusal(pod)
    return Rejection("Evicted", why) if why else None


def _operating_system(pod: Pod) -> Rejection | None:
    name = (pod["spec"].get("os") or {}).get("name") or "linux"
    if name == "linux":
        return None
    return Rejection(
        "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    )


def _sysctls(pod: Pod, tools: Tools) -> Rejection | None:
    if not (pod["spec"].get("securityContext") or {}).get("sysctls"):
        return None
    # Few pods have sysctls: their rules are loaded for the first that does.
    from kedge.edge.kubelet.container import sysctls  # noqa: PLC0415

    return sysctls.admit(pod, tools.facts.security.unsafe_sysctls)


def _app_armor(pod: Pod) -> Rejection | None:
    if not _wants_app_armor(pod) or has_app_armor():
        return None
    return Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")


def _wants_app_armor(pod: Pod) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    asked = [
        text for key, text in annotations.items() if key.startswith(APPARMOR_ANNOTATION) and text
    ]
    if any(text != "unconfined" for text in asked):
        return True
    contexts = [pod["spec"].get("securityContext")]
    contexts += [one.get("securityContext") for one in lifecycle.every_container(pod)]
    profiles = [(one or {}).get("appArmorProfile") for one in contexts]
    return any(one and one.get("type") != "Unconfined" for one in profiles)


def has_app_armor(path: Path = APPARMOR) -> bool:
    """Whether the kernel enforces AppArmor."""
    try:
        return path.read_text().startswith("Y")
    except OSError:
        return False


def _groups(pod: Pod, tools: Tools) -> Rejection | None:
    policy = (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy")
    if policy != "Strict" or tools.facts.abilities.strict_groups:
        return None
    return Rejection(
        "SupplementalGroupsPolicyNotSupported",
        "SupplementalGroupsPolicy=Strict is not supported in this node",
    )
