# SPDX-License-Identifier: Apache-2.0
"""A pod's objects turned into the runtime's ``PodSandboxConfig`` and ``ContainerConfig``; pure.

Dictionaries with the field names of CRI v1; enumerations are its numbers. Which fields are not
honoured is ``pod_fields``' to know and ``unhonoured``'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet import labels
from kedge.edge.kubelet.container import host_ports, security
from kedge.edge.kubelet.container.environment import ContainerConfigError, expand
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.status import qos_class
from kedge.edge.kubelet.resources import resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.runtime import Image

_PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}


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
        security: what the node's settings say of it.
        users: ``userns_options`` of a pod with users of its own.
        huge_page_sizes: of the node, as the kernel calls them.
    """

    node: str
    log_directory: str
    hostname: str
    dns: Mapping[str, Any]
    cgroup_parent: str = ""
    node_memory: int = 0
    security: security.Settings = field(default_factory=security.Settings)
    users: dict[str, Any] | None = None
    huge_page_sizes: tuple[str, ...] = ()


def sandbox_config(pod: Pod, layout: Layout, attempt: int) -> dict[str, Any]:
    """The runtime's ``PodSandboxConfig``."""
    metadata, context = pod["metadata"], pod["spec"].get("securityContext") or {}
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
        "port_mappings": host_ports.mappings(pod),
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
            "security_context": security.sandbox_context(pod, layout.security, layout.users),
            "sysctls": {one["name"]: one["value"] for one in context.get("sysctls") or []},
        }
        | _overhead(pod),
    }


def container_config(
    pod: Pod,
    container: dict[str, Any],
    layout: Layout,
    *,
    attempt: int,
    image: Image,
    variables: Mapping[str, str],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    """The runtime's ``ContainerConfig``.

    Raises:
        ContainerConfigError: a quantity cannot be honoured.
    """
    name, metadata = container["name"], pod["metadata"]
    try:
        linux = resources.linux_resources(
            "Guaranteed" if lifecycle.is_node_critical(pod) else qos_class(pod),
            container,
            layout.node_memory,
            pod_level=pod["spec"].get("resources"),
            huge_page_sizes=layout.huge_page_sizes,
        )
    except ValueError as error:
        raise ContainerConfigError(f"container {name}: resources: {error}") from error
    return {
        "metadata": {"name": name, "attempt": attempt},
        "image": {"image": image.id, "user_specified_image": container.get("image", "")},
        "command": [expand(word, variables) for word in container.get("command") or []],
        "args": [expand(word, variables) for word in container.get("args") or []],
        "working_dir": container.get("workingDir") or "",
        "envs": [{"key": key, "value": value} for key, value in variables.items()],
        "mounts": mounts if layout.users is None else _mapped(mounts, layout.users),
        "labels": {
            labels.POD_NAME: metadata["name"],
            labels.POD_NAMESPACE: metadata["namespace"],
            labels.POD_UID: metadata["uid"],
            labels.CONTAINER_NAME: name,
        },
        "annotations": {
            labels.DEFINITION: lifecycle.definition(container),
            labels.IMAGE: container.get("image", ""),
            labels.RESTART_COUNT: str(attempt),
            labels.TERMINATION_MESSAGE_PATH: termination_path(container),
            labels.TERMINATION_MESSAGE_POLICY: container.get("terminationMessagePolicy") or "File",
        },
        "log_path": f"{name}/{attempt}.log",
        "stdin": bool(container.get("stdin")),
        "stdin_once": bool(container.get("stdinOnce")),
        "tty": bool(container.get("tty")),
        "linux": {
            "resources": linux,
            "security_context": security.container_context(
                pod, container, layout.security, image.user, layout.users
            ),
        },
    }


def _mapped(mounts: list[dict[str, Any]], users: dict[str, Any]) -> list[dict[str, Any]]:
    """Mounts whose files belong to the pod's own users as they do to the node's."""
    return [one | {"uid_mappings": users["uids"], "gid_mappings": users["gids"]} for one in mounts]


def _overhead(pod: Pod) -> dict[str, Any]:
    """What the runtime class says that the sandbox itself takes."""
    amounts = pod["spec"].get("overhead")
    if not amounts:
        return {}
    alike = {"resources": {"limits": amounts, "requests": amounts}}
    found = resources.linux_resources("Guaranteed", alike, 0)
    found.pop("oom_score_adj", None)
    return {"overhead": found}


def share_processes(config: dict[str, Any], target: str) -> None:
    """Puts a container among the processes of another, unless the whole pod shares them anyway."""
    options = config["linux"]["security_context"]["namespace_options"]
    if target and options["pid"] == security.NAMESPACE_CONTAINER:
        options |= {"pid": security.NAMESPACE_TARGET, "target_id": target}


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
