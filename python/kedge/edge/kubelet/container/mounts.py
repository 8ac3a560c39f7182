# SPDX-License-Identifier: Apache-2.0
"""A container's mounts: its volumes, the hosts file, and the file for its last words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.container import containers
from kedge.edge.kubelet.container.environment import ContainerConfigError, expand, unknown
from kedge.edge.kubelet.volumes import VolumeError, sub_paths
from kedge.edge.kubelet.volumes.trees import SystemMounter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kedge.edge.kubelet.volumes import Prepared

MAX_MESSAGE_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80
MAX_TAIL_BYTES = 32 * 1024
"""How much of a log is looked at for its last lines: they carry times and marks."""


def build(
    container: dict[str, Any],
    *,
    volumes: Mapping[str, Prepared],
    variables: Mapping[str, str],
    directory: Path,
    hosts: str | None,
    attempt: int,
    recursive: bool = False,
) -> list[dict[str, Any]]:
    """The mounts of one container; makes the files that they need.

    Args:
        container: its spec.
        volumes: the pod's, by name.
        variables: the container's environment, for ``subPathExpr``.
        directory: the pod's own.
        hosts: what /etc/hosts is to say; none leaves the node's or the image's.
        attempt: which start this is.
        recursive: whether the runtime makes mounts read-only all through.

    Raises:
        ContainerConfigError: a volume is not there or a sub-path leaves it.
    """
    is_privileged = bool((container.get("securityContext") or {}).get("privileged"))
    found = []
    for number, one in enumerate(container.get("volumeMounts") or []):
        place = directory / "volume-subpaths" / one["name"] / container["name"] / str(number)
        made = _mount(one, place, volumes, variables, is_privileged=is_privileged)
        found.append(made | _all_through(one, made, able=recursive))
    taken = {one["container_path"].rstrip("/") for one in found}
    if hosts is not None and "/etc/hosts" not in taken:
        path = directory / "etc-hosts"
        if not path.exists() or path.read_text() != hosts:
            path.write_text(hosts)
        found.append(containers.mount(str(path), "/etc/hosts", read_only=False))
    words = containers.termination_path(container)
    if words not in taken:
        path = last_words(directory, container["name"], attempt)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o666)
        found.append(containers.mount(str(path), words, read_only=False))
    return found


def devices(container: dict[str, Any], volumes: Mapping[str, Prepared]) -> list[dict[str, str]]:
    """The runtime's ``Device`` of each of a container's ``volumeDevices``.

    Args:
        container: its spec.
        volumes: the pod's, by name.

    Raises:
        ContainerConfigError: a volume is not there or not a device.
    """
    found = []
    for one in container.get("volumeDevices") or []:
        volume = volumes.get(one["name"])
        if volume is None:
            raise ContainerConfigError(f"volumeDevices: no such volume: {one['name']}")
        if not volume.is_block:
            text = (
                f"volume {one['name']} has volumeMode Filesystem, but is specified in volumeDevices"
            )
            raise ContainerConfigError(text)
        permissions = "r" if volume.read_only else "mrw"
        path = one["devicePath"]
        found.append({"host_path": volume.path, "container_path": path, "permissions": permissions})
    return found


def last_words(directory: Path, name: str, attempt: int) -> Path:
    """The file behind a container's termination message path."""
    return directory / "containers" / name / str(attempt)


def _mount(
    one: dict[str, Any],
    place: Path,
    volumes: Mapping[str, Prepared],
    variables: Mapping[str, str],
    *,
    is_privileged: bool,
) -> dict[str, Any]:
    """One volume mount, as the runtime is told.

    Args:
        one: the container's word for it.
        place: where a part of the volume is mounted for the runtime.
        volumes: the pod's, by name.
        variables: the container's environment.
        is_privileged: the container is.
    """
    name, propagation = one["name"], one.get("mountPropagation")
    if name not in volumes:
        raise ContainerConfigError(f"volumeMounts: no such volume: {name}")
    volume = volumes[name]
    if volume.is_block:
        raise ContainerConfigError(
            f"volume {name} has volumeMode Block, but is specified in volumeMounts"
        )
    if propagation == "Bidirectional" and not is_privileged:
        raise ContainerConfigError(
            f"volume {name}: Bidirectional mount propagation is available only to privileged containers"
        )
    if volume.image:
        found = containers.mount("", one["mountPath"], read_only=True, propagation=propagation)
        return found | {
            "image": {"image": volume.image},
            "image_sub_path": _sub_path(one, variables),
        }
    return containers.mount(
        _source(volume, one, place, variables),
        one["mountPath"],
        read_only=volume.read_only or bool(one.get("readOnly")),
        propagation=propagation,
    )


def _all_through(one: dict[str, Any], made: dict[str, Any], *, able: bool) -> dict[str, Any]:
    """What makes a read-only mount so in what is mounted below it too, if it is to be.

    Raises:
        ContainerConfigError: it must be, and the runtime cannot.
    """
    wanted = one.get("recursiveReadOnly") or "Disabled"
    if wanted == "Enabled" and not able:
        text = "recursive read-only mounts are not supported by this node's runtime"
        raise ContainerConfigError(f"volume {one['name']}: {text}")
    is_wanted = wanted in ("Enabled", "IfPossible") and made["readonly"] and able
    return {"recursive_read_only": True} if is_wanted else {}


def _sub_path(one: dict[str, Any], variables: Mapping[str, str]) -> str:
    """Which part of its volume a mount is of; empty for all of it."""
    expression = one.get("subPathExpr")
    if expression:
        missing = unknown(expression, variables)
        if missing:
            raise ContainerConfigError(
                f"volume {one['name']}: subPathExpr {expression}: missing value for {missing!r}"
            )
    return expand(expression, variables) if expression else str(one.get("subPath") or "")


def _source(
    volume: Prepared, one: dict[str, Any], place: Path, variables: Mapping[str, str]
) -> str:
    sub = _sub_path(one, variables)
    if not sub:
        return volume.path
    try:
        return sub_paths.bind(SystemMounter(), volume.path, sub, place)
    except VolumeError as error:
        text = f'failed to prepare subPath for volumeMount "{one["name"]}": {error}'
        raise ContainerConfigError(text) from error


def read_last_words(path: Path, log: Path | None) -> str:
    """A container's termination message; the tail of its log when that is the policy and it is empty."""
    text = _tail(path, MAX_MESSAGE_BYTES)
    if text or log is None:
        return text
    return _last_lines(_tail(log, MAX_TAIL_BYTES))


def _last_lines(text: str) -> str:
    """The end of what a container wrote, from its log in CRI's form (``time stream F|P words``)."""
    parts = [line.split(" ", 3) for line in text.splitlines()]
    written = "".join(
        part[3] + ("" if part[2] == "P" else "\n") for part in parts if len(part) == 4
    )
    lines = written.splitlines(keepends=True)[-MAX_LOG_LINES:]
    last = "".join(lines).removesuffix("\n").encode()[-MAX_LOG_BYTES:]
    return last.decode("utf-8", "ignore")


def _tail(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - limit))
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""
