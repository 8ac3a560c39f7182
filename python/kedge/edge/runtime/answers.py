# SPDX-License-Identifier: Apache-2.0
"""CRI's answers made into the runtime's dataclasses; pure."""

from __future__ import annotations

import json
from binascii import a2b_base64
from typing import Any

from kedge.edge.runtime.types import (
    Abilities,
    ContainerInfo,
    ContainerStats,
    ContainerStatus,
    ExecResult,
    FilesystemUsage,
    Handler,
    Image,
    NetworkInfo,
    RuntimeCondition,
    RuntimeVersion,
    SandboxInfo,
)

_STATES = ("created", "running", "exited", "unknown")
_SANDBOX_READY = 0
_NANOSECONDS = 1e9


def version(found: dict[str, Any]) -> RuntimeVersion:
    """Of ``VersionResponse``."""
    return RuntimeVersion(
        found["runtime_name"], found["runtime_version"], found["runtime_api_version"]
    )


def conditions(found: dict[str, Any]) -> list[RuntimeCondition]:
    """Of ``StatusResponse``."""
    listed = (found["status"] or {}).get("conditions", ())
    return [
        RuntimeCondition(one["type"], one["status"], one["reason"], one["message"])
        for one in listed
    ]


def cgroup_driver(found: dict[str, Any]) -> str | None:
    """Of the configuration in a verbose ``StatusResponse`` of containerd; None if it is not there."""
    try:
        settings = json.loads(found["info"]["config"])["containerd"]
        options = settings["runtimes"][settings["defaultRuntimeName"]]["options"]
        return "systemd" if options["SystemdCgroup"] else "cgroupfs"
    except (KeyError, TypeError, ValueError):
        return None


def abilities(found: dict[str, Any]) -> Abilities:
    """Of a verbose ``StatusResponse``; containerd 1.x names its handlers only in its configuration."""
    handlers = {
        one["name"]: Handler(
            (one["features"] or {}).get("recursive_read_only_mounts", False),
            (one["features"] or {}).get("user_namespaces", False),
        )
        for one in found.get("runtime_handlers") or ()
    }
    config = _info(found, "config")
    runtimes = (config.get("containerd") or {}).get("runtimes")
    if not handlers and isinstance(runtimes, dict):
        handlers = {name: Handler() for name in ("", *runtimes)}
    selinux = config.get("enableSelinux")
    return Abilities(
        handlers,
        bool((found.get("features") or {}).get("supplemental_groups_policy")),
        selinux if isinstance(selinux, bool) else None,
    )


def network(found: dict[str, Any]) -> NetworkInfo:
    """Of a verbose ``StatusResponse``; the loopback that every pod has is no network."""
    cni, settings = _info(found, "cniconfig"), _info(found, "config").get("cni") or {}
    conf_dir = cni.get("PluginConfDir") or settings.get("confDir") or ""
    directories = cni.get("PluginDirs") or settings.get("binDirs") or [settings.get("binDir")]
    bin_dirs = tuple(one for one in directories if one)
    if "Networks" not in cni:
        return NetworkInfo("", conf_dir, bin_dirs)
    for entry in cni["Networks"] or ():
        config = (entry or {}).get("Config") or {}
        if config.get("Name") in (None, "cni-loopback"):
            continue
        plugins = [(one or {}).get("Network") or {} for one in config.get("Plugins") or ()]
        able = {
            name for one in plugins for name, on in (one.get("capabilities") or {}).items() if on
        }
        return NetworkInfo(str(config["Name"]), conf_dir, bin_dirs, frozenset(able))
    return NetworkInfo("", conf_dir, bin_dirs, frozenset())


def _info(found: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of what a verbose status says beside the interface: the runtime's own words, or nothing."""
    try:
        value = json.loads(found["info"][name])
    except (KeyError, TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def own_images(found: dict[str, Any]) -> set[str]:
    """The sandbox image in the configuration in a verbose ``StatusResponse`` of containerd."""
    image = _info(found, "config").get("sandboxImage")
    return {image} if isinstance(image, str) and image else set()


def cdi(found: dict[str, Any]) -> bool | None:
    """Of the configuration in a verbose ``StatusResponse`` of containerd; None if it is not there."""
    try:
        return bool(json.loads(found["info"]["config"])["enableCDI"])
    except (KeyError, TypeError, ValueError):
        return None


def sandboxes(found: dict[str, Any]) -> list[SandboxInfo]:
    """Of ``ListPodSandboxResponse``."""
    return [sandbox(one) for one in found["items"]]


def sandbox(found: dict[str, Any]) -> SandboxInfo:
    """Of ``PodSandbox`` or ``PodSandboxStatus``, which alone has addresses."""
    network = found.get("network") or {}
    first = [network["ip"]] if network.get("ip") else []
    more = [one["ip"] for one in network.get("additional_ips", ())]
    return SandboxInfo(
        id=found["id"],
        attempt=(found["metadata"] or {}).get("attempt", 0),
        ready=found["state"] == _SANDBOX_READY,
        created_at=found["created_at"] / _NANOSECONDS,
        labels=found["labels"],
        annotations=found["annotations"],
        ips=(*first, *more),
    )


def containers(found: dict[str, Any]) -> list[ContainerInfo]:
    """Of ``ListContainersResponse``."""
    return [_container(one) for one in found["containers"]]


def _container(found: dict[str, Any]) -> ContainerInfo:
    metadata = found["metadata"] or {}
    return ContainerInfo(
        id=found["id"],
        sandbox_id=found["pod_sandbox_id"],
        name=metadata.get("name", ""),
        attempt=metadata.get("attempt", 0),
        state=_state(found["state"]),
        image=_image_name(found),
        image_ref=found["image_ref"],
        created_at=found["created_at"] / _NANOSECONDS,
        labels=found["labels"],
        annotations=found["annotations"],
    )


def container_status(found: dict[str, Any]) -> ContainerStatus:
    """Of ``ContainerStatus``."""
    return ContainerStatus(
        id=found["id"],
        state=_state(found["state"]),
        started_at=found["started_at"] / _NANOSECONDS,
        finished_at=found["finished_at"] / _NANOSECONDS,
        exit_code=found["exit_code"],
        reason=found["reason"],
        message=found["message"],
        image_ref=found["image_ref"],
        log_path=found["log_path"],
    )


def executed(found: dict[str, Any]) -> ExecResult:
    """Of ``ExecSyncResponse``."""
    return ExecResult(found["exit_code"], a2b_base64(found["stdout"]), a2b_base64(found["stderr"]))


def image(found: dict[str, Any]) -> Image:
    """Of ``Image``; an image without a user, or with user 0, runs as root."""
    uid, username = found["uid"], found["username"]
    is_root = username in ("", "root") if uid is None else uid["value"] == 0
    return Image(
        id=found["id"],
        tags=tuple(found["repo_tags"]),
        digests=tuple(found["repo_digests"]),
        size_bytes=found["size"],
        runs_as_root=is_root,
        is_pinned=found["pinned"],
        user=username if uid is None else str(uid["value"]),
    )


def container_stats(found: dict[str, Any]) -> list[ContainerStats]:
    """Of ``ListContainerStatsResponse``."""
    return [_stats(one) for one in found["stats"]]


def _stats(found: dict[str, Any]) -> ContainerStats:
    cpu, memory = found["cpu"] or {}, found["memory"] or {}
    layer = found["writable_layer"] or {}
    return ContainerStats(
        id=(found["attributes"] or {}).get("id", ""),
        time=cpu.get("timestamp", 0) / _NANOSECONDS,
        cpu_seconds=_value(cpu, "usage_core_nano_seconds") / _NANOSECONDS,
        memory_bytes=_value(memory, "working_set_bytes"),
        disk_bytes=_value(layer, "used_bytes"),
        disk_inodes=_value(layer, "inodes_used"),
    )


def filesystems(found: dict[str, Any]) -> list[FilesystemUsage]:
    """Of ``ImageFsInfoResponse``."""
    return [
        FilesystemUsage((one["fs_id"] or {}).get("mountpoint", ""), _value(one, "used_bytes"))
        for one in found["image_filesystems"]
    ]


def _state(number: int) -> str:
    return _STATES[number] if 0 <= number < len(_STATES) else "unknown"


def _image_name(found: dict[str, Any]) -> str:
    spec = found["image"] or {}
    return spec.get("user_specified_image") or spec.get("image") or ""


def _value(found: dict[str, Any], name: str) -> int:
    wrapped = found.get(name)
    return int(wrapped["value"]) if wrapped else 0
