# SPDX-License-Identifier: Apache-2.0
"""A pod's objects turned into the runtime's ``PodSandboxConfig`` and ``ContainerConfig``; pure.

Dictionaries with the field names of CRI v1; enumerations are its numbers. Which fields are not
honoured is ``pod_fields``' to know and ``unhonoured``'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet import labels, lifecycle, resources
from kedge.edge.kubelet.environment import ContainerConfigError, expand
from kedge.edge.kubelet.status import qos_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.edge.kubelet.state import Pod

NAMESPACE_POD, NAMESPACE_CONTAINER, NAMESPACE_NODE = 0, 1, 2
_PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
_SECCOMP = {"RuntimeDefault": 0, "Unconfined": 1, "Localhost": 2}
_MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
]  # fmt: skip
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What of the node goes into every configuration.

    Attributes:
        node: the node's name.
        log_directory: this pod's directory of container logs.
        hostname: the sandbox's; empty on the host network.
        dns: ``dns_config``.
        cgroup_parent: empty leaves it to the runtime.
        node_memory: bytes.
    """

    node: str
    log_directory: str
    hostname: str
    dns: Mapping[str, Any]
    cgroup_parent: str = ""
    node_memory: int = 0


def cgroup_parent(pod: Pod, *, systemd: bool) -> str:
    """The pod's cgroup, named as the kubelet names it."""
    uid = pod["metadata"]["uid"]
    level = qos_class(pod).lower()
    if systemd:
        inner = "" if level == "guaranteed" else f"-{level}"
        return f"kubepods{inner}-pod{uid.replace('-', '_')}.slice"
    inner = "" if level == "guaranteed" else f"/{level}"
    return f"/kubepods{inner}/pod{uid}"


def sandbox_config(pod: Pod, layout: Layout, attempt: int) -> dict[str, Any]:
    """The runtime's ``PodSandboxConfig``."""
    metadata, spec = pod["metadata"], pod["spec"]
    context = spec.get("securityContext") or {}
    security: dict[str, Any] = {"namespace_options": _namespaces(spec)}
    security["supplemental_groups"] = _groups(context)
    security["privileged"] = any(_is_privileged(one) for one in lifecycle.every_container(pod))
    security |= _identity(context, {})
    security |= _confinement(context)
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "attempt": attempt,
        },
        "hostname": layout.hostname,
        "log_directory": layout.log_directory,
        "dns_config": dict(layout.dns),
        "port_mappings": [],
        "labels": (metadata.get("labels") or {})
        | {
            labels.POD_NAME: metadata["name"],
            labels.POD_NAMESPACE: metadata["namespace"],
            labels.POD_UID: metadata["uid"],
            labels.MANAGED_BY: layout.node,
        },
        "annotations": (metadata.get("annotations") or {})
        | {labels.GRACE_SECONDS: str(lifecycle.grace_seconds(pod))},
        "linux": {
            "cgroup_parent": layout.cgroup_parent,
            "security_context": security,
            "sysctls": {one["name"]: one["value"] for one in context.get("sysctls") or []},
        },
    }


def container_config(
    pod: Pod,
    container: dict[str, Any],
    layout: Layout,
    *,
    attempt: int,
    image_id: str,
    variables: Mapping[str, str],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    """The runtime's ``ContainerConfig``.

    Raises:
        ContainerConfigError: a quantity or an identity cannot be honoured.
    """
    name, metadata = container["name"], pod["metadata"]
    try:
        linux = resources.linux_resources(qos_class(pod), container, layout.node_memory)
    except ValueError as error:
        raise ContainerConfigError(f"container {name}: resources: {error}") from error
    return {
        "metadata": {"name": name, "attempt": attempt},
        "image": {"image": image_id, "user_specified_image": container.get("image", "")},
        "command": [expand(word, variables) for word in container.get("command") or []],
        "args": [expand(word, variables) for word in container.get("args") or []],
        "working_dir": container.get("workingDir") or "",
        "envs": [{"key": key, "value": value} for key, value in variables.items()],
        "mounts": mounts,
        "labels": {
            labels.POD_NAME: metadata["name"],
            labels.POD_NAMESPACE: metadata["namespace"],
            labels.POD_UID: metadata["uid"],
            labels.CONTAINER_NAME: name,
        },
        "annotations": {
            labels.DEFINITION: lifecycle.definition(container),
            labels.RESTART_COUNT: str(attempt),
            labels.TERMINATION_MESSAGE_PATH: termination_path(container),
            labels.TERMINATION_MESSAGE_POLICY: container.get("terminationMessagePolicy") or "File",
        },
        "log_path": f"{name}/{attempt}.log",
        "stdin": bool(container.get("stdin")),
        "stdin_once": bool(container.get("stdinOnce")),
        "tty": bool(container.get("tty")),
        "linux": {"resources": linux, "security_context": _container_security(pod, container)},
    }


def termination_path(container: dict[str, Any]) -> str:
    """Where a container may leave its last words."""
    return container.get("terminationMessagePath") or "/dev/termination-log"


def mount(
    host_path: str, path: str, *, read_only: bool, propagation: str | None = None
) -> dict[str, Any]:
    """A runtime ``Mount``."""
    return {
        "host_path": host_path,
        "container_path": path,
        "readonly": read_only,
        "selinux_relabel": False,
        "propagation": _PROPAGATION.get(propagation or "None", 0),
    }


def _namespaces(spec: dict[str, Any]) -> dict[str, int]:
    pid = NAMESPACE_POD if spec.get("shareProcessNamespace") else NAMESPACE_CONTAINER
    return {
        "network": NAMESPACE_NODE if spec.get("hostNetwork") else NAMESPACE_POD,
        "pid": NAMESPACE_NODE if spec.get("hostPID") else pid,
        "ipc": NAMESPACE_NODE if spec.get("hostIPC") else NAMESPACE_POD,
    }


def _is_privileged(container: dict[str, Any]) -> bool:
    return bool((container.get("securityContext") or {}).get("privileged"))


def _groups(context: dict[str, Any]) -> list[int]:
    groups = list(context.get("supplementalGroups") or [])
    return groups + ([context["fsGroup"]] if context.get("fsGroup") is not None else [])


def _identity(context: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for theirs, ours in (("runAsUser", "run_as_user"), ("runAsGroup", "run_as_group")):
        value = over.get(theirs, context.get(theirs))
        if value is not None:
            found[ours] = {"value": value}
    return found


def _confinement(context: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    seccomp = context.get("seccompProfile")
    if seccomp:
        kind = seccomp.get("type", "Unconfined")
        found["seccomp"] = {
            "profile_type": _SECCOMP.get(kind, 1),
            "localhost_ref": seccomp.get("localhostProfile") or "",
        }
    selinux = context.get("seLinuxOptions")
    if selinux:
        found["selinux_options"] = {
            key: selinux.get(key, "") for key in ("user", "role", "type", "level")
        }
    return found


def _container_security(pod: Pod, container: dict[str, Any]) -> dict[str, Any]:
    spec = pod["spec"]
    outer, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    is_privileged = bool(own.get("privileged"))
    if (
        own.get("runAsNonRoot", outer.get("runAsNonRoot"))
        and own.get("runAsUser", outer.get("runAsUser")) == 0
    ):
        raise ContainerConfigError("container has runAsNonRoot and runAsUser 0")
    capabilities = own.get("capabilities") or {}
    security: dict[str, Any] = {
        "privileged": is_privileged,
        "readonly_rootfs": bool(own.get("readOnlyRootFilesystem")),
        "namespace_options": _namespaces(spec),
        "supplemental_groups": _groups(outer),
        "no_new_privs": own.get("allowPrivilegeEscalation") is False,
        "capabilities": {
            "add_capabilities": list(capabilities.get("add") or []),
            "drop_capabilities": list(capabilities.get("drop") or []),
        },
        "masked_paths": [] if is_privileged or own.get("procMount") == "Unmasked" else _MASKED,
        "readonly_paths": [] if is_privileged or own.get("procMount") == "Unmasked" else _READ_ONLY,
    }
    return security | _identity(outer, own) | _confinement(outer) | _confinement(own)


def refusal(pod: Pod) -> str:
    """Why this node must not start the pod at all; empty when it may."""
    for container in lifecycle.every_container(pod):
        for port in container.get("ports") or []:
            if port.get("hostPort") and not pod["spec"].get("hostNetwork"):
                where = f"container {container['name']}, port {port['hostPort']}"
                return f"hostPort is not supported on this node: {where}; use hostNetwork"
    return ""
