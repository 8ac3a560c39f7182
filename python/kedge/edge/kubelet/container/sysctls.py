# SPDX-License-Identifier: Apache-2.0
"""Which kernel settings a pod may have: the safe ones, and those that the node's settings allow; pure.

Names may be written with dots or slashes. Only what the kernel keeps apart by namespace can be set
for a pod at all; a setting of a namespace that the pod shares with the node would be the node's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kedge.edge.kubelet.admission.admission import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.pod.state import Pod

REASON = "SysctlForbidden"
SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
"""As in Kubernetes 1.36; every kernel that kedge runs on has them."""
_NAMESPACES = (
    ("kernel.shm", "ipc"),
    ("kernel.msg", "ipc"),
    ("kernel.sem", "ipc"),
    ("fs.mqueue.", "ipc"),
    ("net.", "net"),
)
_PATTERN = re.compile(
    r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*([./]?\*)?"
)
MAX_CHARACTERS = 253


def admit(pod: Pod, allowed: Iterable[str]) -> Rejection | None:
    """Why the pod's settings are refused, if they are.

    Args:
        pod: it.
        allowed: names, or beginnings of names that end in ``*``, beside the safe ones.
    """
    spec = pod["spec"]
    shared = {"ipc": bool(spec.get("hostIPC")), "net": bool(spec.get("hostNetwork"))}
    patterns = [*SAFE, *(dotted(one) for one in allowed)]
    for one in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = dotted(one["name"])
        if not any(_fits(name, pattern) for pattern in patterns):
            return Rejection(REASON, f'forbidden sysctl: "{name}" not allowlisted')
        space = namespace(name)
        if shared.get(space):
            text = f'forbidden sysctl: "{name}" not allowed with host {space} enabled'
            return Rejection(REASON, text)
    return None


def dotted(name: str) -> str:
    """The name with dots between its parts: what comes first in it is the separator, the other one is part of a name."""
    separator = next((one for one in name if one in "./"), ".")
    return name if separator == "." else name.translate({ord("/"): ".", ord("."): "/"})


def namespace(name: str) -> str:
    """``ipc`` or ``net``; empty for what the kernel does not keep apart."""
    return next((space for prefix, space in _NAMESPACES if name.startswith(prefix)), "")


def check_pattern(pattern: str) -> None:
    """Checks an entry of the settings.

    Raises:
        ValueError: it is no name or pattern, or nothing that pods can have for themselves.
    """
    if len(pattern) > MAX_CHARACTERS or not _PATTERN.fullmatch(pattern):
        raise ValueError(
            f"allowedUnsafeSysctls: got: {pattern!r}, wanted: a name such as net.core.somaxconn, or net.*"
        )
    if not namespace(dotted(pattern).removesuffix("*")):
        raise ValueError(
            f"allowedUnsafeSysctls: got: {pattern!r}, wanted: one that is kept apart by namespace (kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*, net.*)"
        )


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
