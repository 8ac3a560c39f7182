# SPDX-License-Identifier: Apache-2.0
"""CDI devices resolved here, for a runtime that does not know them (containerd before 1.7, or switched off).

The files of the Container Device Interface, in ``/etc/cdi`` and ``/var/run/cdi``, say what a name such
as ``vendor.example/gpu=0`` means for a container: devices, mounts and variables, which every runtime
takes. Hooks cannot be passed through CRI: they are told as not honoured.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kedge.edge.kubelet.devices.edits import Edits

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""The later one wins."""
MAX_FILES = 256
MAX_FILE_BYTES = 4 << 20


class CDIError(KedgeError):
    """A CDI device is not known, or its file is not what it should be."""

    reason: ClassVar[str] = "UnresolvableCDIDevice"


def resolve(
    names: Iterable[str], directories: tuple[Path, ...] = DIRECTORIES
) -> tuple[Edits, list[str]]:
    """What these devices mean for a container, and what of it cannot be passed on.

    Raises:
        CDIError: a device is in no file, or a file that it is in cannot be used.
    """
    wanted = list(dict.fromkeys(names))
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for path in _files(directories):
        spec = _read(path)
        kind = str(spec.get("kind", ""))
        for device in spec.get("devices") or []:
            name = f"{kind}={device.get('name', '')}"
            if name in wanted:
                found[name] = (spec, device)
    missing = [name for name in wanted if name not in found]
    if missing:
        where = ", ".join(map(str, directories))
        raise CDIError(f"unresolvable CDI devices {', '.join(missing)}: in no file of {where}")
    edits: Edits = {"envs": {}, "mounts": [], "devices": [], "annotations": {}, "cdi_devices": []}
    unhonoured: list[str] = []
    done: list[int] = []
    for name, (spec, device) in found.items():
        parts = [device.get("containerEdits") or {}]
        if id(spec) not in done:
            done.append(id(spec))
            parts.append(spec.get("containerEdits") or {})
        for part in parts:
            _add(edits, part, name)
            unhonoured += [
                f"CDI device {name}: {field} is not honoured on this runtime"
                for field in ("hooks", "intelRdt", "additionalGids", "netDevices")
                if part.get(field)
            ]
    return edits, unhonoured


def _add(edits: Edits, part: dict[str, Any], name: str) -> None:
    try:
        for variable in part.get("env") or []:
            key, _, value = variable.partition("=")
            edits["envs"][key] = value
        for node in part.get("deviceNodes") or []:
            edits["devices"].append(
                {
                    "container_path": node["path"],
                    "host_path": node.get("hostPath") or node["path"],
                    "permissions": node.get("permissions") or "rw",
                }
            )
        for mount in part.get("mounts") or []:
            edits["mounts"].append(
                {
                    "container_path": mount["containerPath"],
                    "host_path": mount["hostPath"],
                    "read_only": "ro" in (mount.get("options") or []),
                }
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise CDIError(f"CDI device {name}: its file lacks or misspells: {error}") from error


def _files(directories: tuple[Path, ...]) -> Iterator[Path]:
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))  # noqa: PTH208 - names, not paths
        except OSError:
            continue
        for name in names[:MAX_FILES]:
            if name.endswith((".json", ".yaml", ".yml")):
                yield directory / name


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1).decode()
        if path.suffix == ".json":
            found = json.loads(text)
        else:
            import yaml  # noqa: PLC0415 - a megabyte, for a file that few nodes have

            found = yaml.safe_load(text)
    except (OSError, ValueError) as error:
        raise CDIError(f"{path}: {error}") from error
    except Exception as error:  # yaml's own errors have no common ancestor with these
        raise CDIError(f"{path}: not YAML: {error}") from error
    if len(text) > MAX_FILE_BYTES or not isinstance(found, dict):
        raise CDIError(
            f"{path}: wanted an object with kind and devices, at most {MAX_FILE_BYTES} bytes"
        )
    return found
