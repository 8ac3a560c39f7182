# SPDX-License-Identifier: Apache-2.0
"""Rules of a pod's volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

_NAMED = {"secret": "secretName", "configMap": "name", "persistentVolumeClaim": "claimName"}
_MODE_RULE = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def validate(items: Any, path: str, problems: Problems) -> set[str]:
    """All volumes of a pod; their names."""
    seen: set[str] = set()
    for index, volume in enumerate(items):
        where = f"{path}[{index}]"
        name = volume.get("name", "")
        if not name:
            problems.required(f"{where}.name")
        elif name in seen:
            problems.duplicate(f"{where}.name", name)
        else:
            problems.text(f"{where}.name", name, names.label(name))
        seen.add(name)
        sources = [key for key in volume if key != "name"]
        if not sources:
            problems.required(where, "must specify a volume type")
        for extra in sources[1:]:
            problems.forbidden(f"{where}.{extra}", "may not specify more than 1 volume type")
        for source in sources[:1]:
            _source(source, volume[source], f"{where}.{source}", problems)
    return seen


def _source(kind: str, source: Object, path: str, problems: Problems) -> None:
    if kind in _NAMED and not source.get(_NAMED[kind]):
        problems.required(f"{path}.{_NAMED[kind]}")
    if "defaultMode" in source:
        _mode(source["defaultMode"], f"{path}.defaultMode", problems)
    match kind:
        case "secret" | "configMap" | "downwardAPI":
            _items(source.get("items", ()), f"{path}.items", problems)
        case "hostPath":
            _host_path(source, path, problems)
        case "projected":
            for index, one in enumerate(source.get("sources", ())):
                _projection(one, f"{path}.sources[{index}]", problems)


def _host_path(source: Object, path: str, problems: Problems) -> None:
    if not source.get("path"):
        problems.required(f"{path}.path")
    elif ".." in source["path"].split("/"):
        problems.invalid(f"{path}.path", source["path"], "must not contain '..'")
    if source.get("type"):
        problems.choice(f"{path}.type", source["type"], _HOST_PATH_TYPES)


def _projection(source: Object, path: str, problems: Problems) -> None:
    if not source:
        problems.required(path, "must specify at least one projection")
    for extra in list(source)[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 volume type per source")
    for kind, inner in source.items():
        if kind in ("secret", "configMap") and not inner.get("name"):
            problems.required(f"{path}.{kind}.name")
        _items(inner.get("items", ()), f"{path}.{kind}.items", problems)
    token = source.get("serviceAccountToken")
    if token is not None:
        seconds = token.get("expirationSeconds", 3600)
        if seconds < 600:
            problems.invalid(
                f"{path}.serviceAccountToken.expirationSeconds",
                seconds,
                "may not specify a duration less than 10 minutes",
            )
        if not token.get("path"):
            problems.required(f"{path}.serviceAccountToken.path")


def _items(items: Any, path: str, problems: Problems) -> None:
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if "key" in item and not item["key"]:
            problems.required(f"{where}.key")
        if not item.get("path"):
            problems.required(f"{where}.path")
        else:
            local_path(item["path"], f"{where}.path", problems)
        if "mode" in item:
            _mode(item["mode"], f"{where}.mode", problems)


def local_path(value: str, path: str, problems: Problems) -> None:
    """Notes a path that would leave the volume."""
    if value.startswith("/"):
        problems.invalid(path, value, "must be a relative path")
    if ".." in value.split("/"):
        problems.invalid(path, value, "must not contain '..'")


def _mode(value: int, path: str, problems: Problems) -> None:
    if not 0 <= value <= 0o777:
        problems.invalid(path, value, _MODE_RULE)
