# SPDX-License-Identifier: Apache-2.0
"""A container's mounts: its volumes, the hosts file, and the file for its last words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet import containers
from kedge.edge.kubelet.environment import ContainerConfigError, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.edge.kubelet.volumes import Prepared

MAX_MESSAGE_BYTES = 4096
MAX_LOG_TAIL_BYTES = 2048


def build(
    container: dict[str, Any],
    *,
    volumes: Mapping[str, Prepared],
    variables: Mapping[str, str],
    directory: Path,
    hosts: str | None,
    attempt: int,
) -> list[dict[str, Any]]:
    """The mounts of one container; makes the files that they need.

    Args:
        container: its spec.
        volumes: the pod's, by name.
        variables: the container's environment, for ``subPathExpr``.
        directory: the pod's own.
        hosts: what /etc/hosts is to say; none leaves the node's or the image's.
        attempt: which start this is.

    Raises:
        ContainerConfigError: a volume is not there or a sub-path leaves it.
    """
    found = []
    for one in container.get("volumeMounts") or []:
        if one["name"] not in volumes:
            raise ContainerConfigError(f"volumeMounts: no such volume: {one['name']}")
        volume = volumes[one["name"]]
        source = _source(Path(volume.path), one, variables)
        read_only = volume.read_only or bool(one.get("readOnly"))
        found.append(
            containers.mount(
                source,
                one["mountPath"],
                read_only=read_only,
                propagation=one.get("mountPropagation"),
            )
        )
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


def last_words(directory: Path, name: str, attempt: int) -> Path:
    """The file behind a container's termination message path."""
    return directory / "containers" / name / str(attempt)


def _source(root: Path, one: dict[str, Any], variables: Mapping[str, str]) -> str:
    sub = (
        expand(one["subPathExpr"], variables)
        if one.get("subPathExpr")
        else one.get("subPath") or ""
    )
    if not sub:
        return str(root)
    if sub.startswith("/") or ".." in Path(sub).parts:
        raise ContainerConfigError(f"subPath leaves the volume {one['name']}: {sub}")
    base = Path(os.path.realpath(root))
    target = Path(os.path.realpath(root / sub))
    if not target.is_relative_to(base):
        raise ContainerConfigError(f"subPath leaves the volume {one['name']}: {sub}")
    if not target.exists():
        target.mkdir(parents=True)
    return str(target)


def read_last_words(path: Path, log: Path | None) -> str:
    """A container's termination message; the tail of its log when that is the policy and it is empty."""
    text = _tail(path, MAX_MESSAGE_BYTES)
    if text or log is None:
        return text
    lines = _tail(log, MAX_LOG_TAIL_BYTES).splitlines()
    return "\n".join(line.split(" ", 3)[-1] for line in lines if line.count(" ") >= 3)


def _tail(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - limit))
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""
