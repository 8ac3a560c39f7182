# SPDX-License-Identifier: Apache-2.0
"""Ports of the node that pods ask for: which the runtime is to map, and who has them.

The ledger holds only pods that have any. Two pods clash when port and protocol are the same and the
addresses are, or one of them is every address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.admission.admission import Rejection
from kedge.edge.kubelet.pod import lifecycle

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Pod

REASON = "NodePorts"
_PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
_EVERY = ("", "0.0.0.0", "::")  # noqa: S104 - what stands for every address
Port = tuple[str, str, int]
"""Address, protocol, number."""


def mappings(pod: Pod) -> list[dict[str, Any]]:
    """The runtime's ``PortMapping``s; none on the host network, where ports are the node's anyway."""
    if pod["spec"].get("hostNetwork"):
        return []
    return [
        {
            "protocol": _PROTOCOLS.get(port.get("protocol") or "TCP", 0),
            "container_port": port["containerPort"],
            "host_port": port["hostPort"],
            "host_ip": port.get("hostIP") or "",
        }
        for port in _ports(pod)
    ]


def _ports(pod: Pod) -> list[dict[str, Any]]:
    return [
        port
        for container in lifecycle.every_container(pod)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


class HostPorts:
    """Who has which port of the node."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, frozenset[Port]]] = {}

    def claim(self, pod: Pod) -> Rejection | None:
        """Gives the pod its ports, or says who has one of them."""
        wanted = self._wanted(pod)
        uid = pod["metadata"]["uid"]
        for other, (name, held) in self._held.items():
            if other == uid:
                continue
            for port in sorted(wanted):
                if any(_clash(port, one) for one in held):
                    text = "node(s) didn't have free ports for the requested pod ports"
                    where = f"{port[2]}/{port[1]} is used by pod {name}"
                    return Rejection(REASON, f"Predicate NodePorts failed: {text}: {where}")
        self.hold(pod)
        return None

    def hold(self, pod: Pod) -> None:
        """Notes the ports of a pod that has them already."""
        wanted, metadata = self._wanted(pod), pod["metadata"]
        if wanted:
            self._held[metadata["uid"]] = (f"{metadata['namespace']}/{metadata['name']}", wanted)

    def release(self, uid: str) -> None:
        """The pod does not use its ports any more."""
        self._held.pop(uid, None)

    def _wanted(self, pod: Pod) -> frozenset[Port]:
        return frozenset(
            (port.get("hostIP") or "", port.get("protocol") or "TCP", port["hostPort"])
            for port in _ports(pod)
        )


def _clash(one: Port, other: Port) -> bool:
    if one[1:] != other[1:]:
        return False
    return one[0] == other[0] or one[0] in _EVERY or other[0] in _EVERY
