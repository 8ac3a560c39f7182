# SPDX-License-Identifier: Apache-2.0
"""The security contexts of a pod and its containers, in the runtime's words; pure but for one look.

What a container says goes before what the pod says. A profile or a user that cannot be had is an
error that names it: nothing runs with fewer limits than were asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kedge.edge.kubelet.container.environment import ContainerConfigError
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.runtime import Image

Context = dict[str, Any]

NAMESPACE_POD, NAMESPACE_CONTAINER, NAMESPACE_NODE, NAMESPACE_TARGET = 0, 1, 2, 3
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_DEFAULT, _UNCONFINED, _LOCALHOST = 0, 1, 2
_PROFILES = {"RuntimeDefault": _DEFAULT, "Unconfined": _UNCONFINED, "Localhost": _LOCALHOST}
_STRICT = 1
_MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
]  # fmt: skip
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


class CreateContainerError(RuntimeFailure):
    """The container cannot be created as it is."""

    reason: ClassVar[str] = "CreateContainerError"


class Settings(NamedTuple):
    """What the node's settings say of security.

    Attributes:
        seccomp_root: the directory that ``localhostProfile`` is below.
        seccomp_default: whether a container without a profile gets the runtime's.
        unsafe_sysctls: names and patterns that pods may set beside the safe ones.
    """

    seccomp_root: str = ""
    seccomp_default: bool = False
    unsafe_sysctls: tuple[str, ...] = ()


def sandbox_context(pod: Pod, settings: Settings, users: Context | None) -> Context:
    """The sandbox's; its one process is confined by the runtime's default if anything in the pod is.

    Args:
        pod: it.
        settings: the node's.
        users: ``userns_options`` of a pod with users of its own.
    """
    spec = pod["spec"]
    context = spec.get("securityContext") or {}
    everyone = (spec.get("initContainers") or []) + (spec.get("containers") or [])
    found: Context = {
        "namespace_options": namespaces(spec, users),
        "supplemental_groups": _groups(context),
        "privileged": any((one.get("securityContext") or {}).get("privileged") for one in everyone),
    }
    if context.get("runAsUser") is not None:
        found |= _identity(context, {}, "")
    if settings.seccomp_default or context.get("seccompProfile"):
        found["seccomp"] = {"profile_type": _DEFAULT, "localhost_ref": ""}
    return found | _policy(context) | _selinux(context)


def container_context(
    pod: Pod, container: Context, settings: Settings, image_user: str, users: Context | None
) -> Context:
    """A container's.

    Raises:
        ContainerConfigError: it is to run as root and not to.
    """
    spec = pod["spec"]
    outer, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    is_privileged = bool(own.get("privileged"))
    is_unmasked = is_privileged or own.get("procMount") == "Unmasked"
    capabilities = own.get("capabilities") or {}
    found: Context = {
        "privileged": is_privileged,
        "readonly_rootfs": bool(own.get("readOnlyRootFilesystem")),
        "namespace_options": namespaces(spec, users),
        "supplemental_groups": _groups(outer),
        "no_new_privs": own.get("allowPrivilegeEscalation") is False,
        "capabilities": {
            "add_capabilities": list(capabilities.get("add") or []),
            "drop_capabilities": list(capabilities.get("drop") or []),
        },
        "masked_paths": [] if is_unmasked else _MASKED,
        "readonly_paths": [] if is_unmasked else _READ_ONLY,
    }
    seccomp = _seccomp(outer, own, settings)
    if seccomp is not None:
        found["seccomp"] = seccomp
    return (
        found
        | _identity(outer, own, image_user)
        | _policy(outer)
        | _selinux(outer)
        | _selinux(own)
        | _app_armor(pod, container)
    )


def namespaces(spec: Context, users: Context | None) -> Context:
    """The runtime's ``NamespaceOption``."""
    pid = NAMESPACE_POD if spec.get("shareProcessNamespace") else NAMESPACE_CONTAINER
    found: Context = {
        "network": NAMESPACE_NODE if spec.get("hostNetwork") else NAMESPACE_POD,
        "pid": NAMESPACE_NODE if spec.get("hostPID") else pid,
        "ipc": NAMESPACE_NODE if spec.get("hostIPC") else NAMESPACE_POD,
    }
    return found if users is None else found | {"userns_options": users}


def check(pod: Pod, container: Context, image: Image, settings: Settings) -> None:
    """Checks what only the node and the image can tell, before the runtime is asked.

    Raises:
        ContainerConfigError: it must not run as root and would, or may.
        CreateContainerError: its seccomp profile is not on this node.
    """
    outer, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    metadata = pod["metadata"]
    where = (
        f'(pod: "{metadata["name"]}_{metadata["namespace"]}({metadata["uid"]})", '
        f"container: {container['name']})"
    )
    if own.get("runAsNonRoot", outer.get("runAsNonRoot")):
        user = own.get("runAsUser", outer.get("runAsUser"))
        if user == 0:
            raise ContainerConfigError(f"container's runAsUser breaks non-root policy {where}")
        if user is None and image.runs_as_root:
            text = f"container has runAsNonRoot and image will run as root {where}"
            raise ContainerConfigError(text)
        if user is None and not image.user.isdecimal():
            text = (
                f"container has runAsNonRoot and image has non-numeric user ({image.user}), "
                f"cannot verify user is non-root {where}"
            )
            raise ContainerConfigError(text)
    found = _seccomp(outer, own, settings)
    if found is not None and found["profile_type"] == _LOCALHOST and not own.get("privileged"):
        _check_profile(found["localhost_ref"], settings)


def _check_profile(path: str, settings: Settings) -> None:
    below = os.path.relpath(path, settings.seccomp_root)
    if not settings.seccomp_root or below.startswith(".."):
        raise CreateContainerError(f"seccomp profile is not below the node's directory: {path}")
    if not os.path.isfile(path):  # noqa: PTH113 - a look, on the way to every such container
        raise CreateContainerError(f"seccomp profile not found on this node: {path}")


def _groups(context: Context) -> list[int]:
    groups = list(context.get("supplementalGroups") or [])
    return groups + ([context["fsGroup"]] if context.get("fsGroup") is not None else [])


def _policy(context: Context) -> Context:
    is_strict = context.get("supplementalGroupsPolicy") == "Strict"
    return {"supplemental_groups_policy": _STRICT} if is_strict else {}


def _identity(outer: Context, own: Context, image_user: str) -> Context:
    """User and group; a group alone needs the image's user with it."""
    found: Context = {}
    user = own.get("runAsUser", outer.get("runAsUser"))
    group = own.get("runAsGroup", outer.get("runAsGroup"))
    if user is not None:
        found["run_as_user"] = {"value": user}
    elif group is not None and (not image_user or image_user.isdecimal()):
        found["run_as_user"] = {"value": int(image_user or 0)}
    elif group is not None:
        found["run_as_username"] = image_user
    if group is not None:
        found["run_as_group"] = {"value": group}
    return found


def _seccomp(outer: Context, own: Context, settings: Settings) -> Context | None:
    profile = own.get("seccompProfile") or outer.get("seccompProfile")
    if not profile:
        return {"profile_type": _DEFAULT, "localhost_ref": ""} if settings.seccomp_default else None
    kind = _PROFILES.get(profile.get("type", "Unconfined"), _UNCONFINED)
    name = profile.get("localhostProfile") or ""
    path = os.path.join(settings.seccomp_root, name) if kind == _LOCALHOST else ""  # noqa: PTH118
    return {"profile_type": kind, "localhost_ref": path}


def _selinux(context: Context) -> Context:
    options = context.get("seLinuxOptions")
    if not options:
        return {}
    return {
        "selinux_options": {key: options.get(key, "") for key in ("user", "role", "type", "level")}
    }


def _app_armor(pod: Pod, container: Context) -> Context:
    """The container's own profile, else its annotation, else the pod's; in the old words and the new."""
    annotations = pod["metadata"].get("annotations") or {}
    text = annotations.get(APPARMOR_ANNOTATION + container["name"], "")
    outer = (pod["spec"].get("securityContext") or {}).get("appArmorProfile")
    profile = (container.get("securityContext") or {}).get("appArmorProfile")
    if not profile and not text:
        profile = outer
    if profile:
        name = profile.get("localhostProfile") or ""
        kind = profile.get("type", "Unconfined")
        text = {"RuntimeDefault": "runtime/default", "Unconfined": "unconfined"}.get(
            kind, f"localhost/{name}"
        )
    if not text:
        return {}
    kinds = {"runtime/default": _DEFAULT, "unconfined": _UNCONFINED}
    return {
        "apparmor_profile": text,
        "apparmor": {
            "profile_type": kinds.get(text, _LOCALHOST),
            "localhost_ref": text.removeprefix("localhost/")
            if text.startswith("localhost/")
            else "",
        },
    }
