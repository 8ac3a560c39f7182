# SPDX-License-Identifier: Apache-2.0
"""What is asked of the runtime for a pod's sandbox beyond its configuration, and refused if it cannot be had; pure.

The runtime class names one of the runtime's handlers. A class that is not there, a handler that the
runtime lacks, users of its own where it has no user namespaces, a bandwidth that is none: each keeps
the pod waiting with the reason in its status, and is tried again, since all of it can come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.objects import RUNTIME_CLASSES
from kedge.edge.kubelet.resources import resources
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.runtime import Abilities, NetworkInfo

BANDWIDTHS = ("kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth")
MIN_BITS, MAX_BITS = 1_000, 10**15


class SandboxRefusedError(KedgeError):
    """The sandbox cannot be made as it is asked for."""

    reason: ClassVar[str] = "FailedCreatePodSandBox"
    retryable: ClassVar[bool] = True


def handler(pod: Pod, objects: Objects, abilities: Abilities) -> str:
    """The runtime's handler for a pod; empty for the default.

    Raises:
        SandboxRefusedError: it is not there, or cannot give the pod users of its own.
    """
    name = pod["spec"].get("runtimeClassName") or ""
    found = ""
    if name:
        held = objects.get(ObjectKey(*RUNTIME_CLASSES, "", name))
        if held is None:
            raise SandboxRefusedError(f'RuntimeClass "{name}" not found')
        found = str(held.get("handler") or "")
        if abilities.handlers and found not in abilities.handlers:
            there = ", ".join(sorted(one for one in abilities.handlers if one))
            text = f'RuntimeClass "{name}": the container runtime has no handler "{found}"'
            raise SandboxRefusedError(f"{text}; it has: {there}")
    if pod["spec"].get("hostUsers") is False:
        able = abilities.handlers.get(found)
        if able is None or not able.user_namespaces:
            text = "hostUsers is false, and the container runtime does not support user namespaces"
            raise SandboxRefusedError(f'{text} with handler "{found or "default"}"')
    return found


def bandwidths(pod: Pod) -> dict[str, int]:
    """The pod's limits in bits per second, by annotation.

    Raises:
        SandboxRefusedError: one is no quantity, or beyond reason.
    """
    found = {}
    for key in BANDWIDTHS:
        text = (pod["metadata"].get("annotations") or {}).get(key)
        if text is None:
            continue
        try:
            found[key] = resources.whole(text)
        except ValueError as error:
            raise SandboxRefusedError(f"annotation {key}: {error}") from error
        if not MIN_BITS <= found[key] <= MAX_BITS:
            wanted = "wanted 1k to 1P bits per second"
            raise SandboxRefusedError(f"annotation {key}: {wanted}: {text}")
    return found


def needs_network(pod: Pod) -> bool:
    """Whether the pod asks for something that not every network can do."""
    annotations = pod["metadata"].get("annotations") or {}
    containers = (pod["spec"].get("initContainers") or []) + (pod["spec"].get("containers") or [])
    return not pod["spec"].get("hostNetwork") and (
        any(key in annotations for key in BANDWIDTHS)
        or any(port.get("hostPort") for one in containers for port in one.get("ports") or ())
    )


def unhonoured_by_network(pod: Pod, network: NetworkInfo) -> list[str]:
    """What the pod asks for and the network's plugins would drop in silence."""
    if network.capabilities is None:
        return []
    annotations = pod["metadata"].get("annotations") or {}
    where = f'the node\'s network "{network.name}" has no plugin'
    found = [
        f"annotation {key} is not honoured on this node: {where} bandwidth"
        for key in BANDWIDTHS
        if key in annotations and "bandwidth" not in network.capabilities
    ]
    if "portMappings" not in network.capabilities:
        found += [
            f"spec.containers[{one['name']}].ports.hostPort {port['hostPort']} is not honoured on "
            f"this node: {where} portmap"
            for one in pod["spec"].get("containers") or ()
            for port in one.get("ports") or ()
            if port.get("hostPort")
        ]
    return found
