# SPDX-License-Identifier: Apache-2.0
"""Rules of ConfigMaps, Secrets, Events and Leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

MAX_DATA = 1024 * 1024
"""Bytes that the data of one ConfigMap or Secret may have."""
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def validate_config_map(obj: Object, problems: Problems) -> None:
    """Keys are legal and occur once, and the whole is not too large."""
    text, binary = obj.get("data", {}), obj.get("binaryData", {})
    for key in text.keys() & binary.keys():
        problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    _data(text, "data", problems)
    _data(binary, "binaryData", problems)
    if (
        sum(map(len, text.values())) + sum(len(value) * 3 // 4 for value in binary.values())
        > MAX_DATA
    ):
        problems.too_long("", MAX_DATA)


def validate_secret(obj: Object, problems: Problems) -> None:
    """Keys are legal, those that the type demands are there, and the whole is not too large."""
    data = obj.get("data", {})
    _data(data, "data", problems)
    for key in _SECRET_KEYS.get(obj.get("type", ""), ()):
        if key not in data:
            problems.required(f"data[{key}]")
    if sum(len(value) * 3 // 4 for value in data.values()) > MAX_DATA:
        problems.too_long("data", MAX_DATA)


def _data(data: dict[str, str], path: str, problems: Problems) -> None:
    for key in data:
        problems.text(f"{path}[{key}]", key, names.config_key(key))


def validate_config_map_update(new: Object, old: Object, problems: Problems) -> None:
    """An immutable ConfigMap stays as it is."""
    _immutable(new, old, ("data", "binaryData"), problems)


def validate_secret_update(new: Object, old: Object, problems: Problems) -> None:
    """The type never changes, and an immutable Secret stays as it is."""
    problems.immutable("type", old.get("type"), new.get("type"))
    _immutable(new, old, ("data",), problems)


def _immutable(new: Object, old: Object, fields: tuple[str, ...], problems: Problems) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        problems.forbidden("immutable", "field is immutable when `immutable` is set")
    for field in fields:
        if new.get(field, {}) != old.get(field, {}):
            problems.forbidden(field, "field is immutable when `immutable` is set")


def validate_event(obj: Object, problems: Problems) -> None:
    """An Event lives where what it is about lives."""
    about = obj.get("involvedObject", {}).get("namespace", "")
    namespace = obj["metadata"].get("namespace", "")
    if about != namespace and not (about == "" and namespace == "default"):
        problems.invalid("involvedObject.namespace", about, "does not match event.namespace")


def validate_lease(obj: Object, problems: Problems) -> None:
    """Durations are positive."""
    spec = obj.get("spec", {})
    if spec.get("leaseDurationSeconds", 1) <= 0:
        problems.invalid(
            "spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"
        )
    if spec.get("leaseTransitions", 0) < 0:
        problems.invalid(
            "spec.leaseTransitions", spec["leaseTransitions"], "must be greater than or equal to 0"
        )
