# SPDX-License-Identifier: Apache-2.0
"""Credentials for registries: from image pull Secrets and from a file on the node; pure but for the file.

Both are in docker's form: ``auths`` by registry, perhaps with a path (``registry.example/team``) and
``*`` within a part of the host's name. The most specific entry comes first; each that fits is tried.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FILE_BYTES = 1 << 20
_DEFAULT_REGISTRY = "docker.io"
_DOCKER_HUB = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "docker.io")

_log = logging.getLogger(__name__)


def registry(reference: str) -> str:
    """The registry host of an image reference."""
    first, slash, _ = reference.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return first if slash and is_host else _DEFAULT_REGISTRY


def candidates(reference: str, configs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runtime's ``AuthConfig`` for an image from docker configurations, the best fit first.

    Args:
        reference: of the image.
        configs: mappings of a registry to an entry, in the order in which they count.
    """
    host = registry(reference)
    path = reference.partition("/")[2] if reference.startswith(f"{host}/") else reference
    found: list[tuple[int, dict[str, Any]]] = []
    for config in configs:
        for where, entry in config.items():
            fit = _fit(str(where), host, path)
            if fit is not None and isinstance(entry, dict):
                one = _auth(entry)
                if one not in [auth for _, auth in found]:
                    found.append((fit, one))
    return [auth for _, auth in sorted(found, key=lambda one: -one[0])]


def _fit(where: str, host: str, path: str) -> int | None:
    """How specific an entry's name is for an image; None when it is another's."""
    bare = where.removeprefix("https://").removeprefix("http://")
    name, _, prefix = bare.partition("/")
    if name in _DOCKER_HUB:
        # Docker Hub's entry is written with an API version as its path.
        return 1 if host in _DOCKER_HUB else None
    wanted, parts = name.split("."), host.split(".")
    if len(wanted) != len(parts) or not all(map(fnmatchcase, parts, wanted)):
        return None
    prefix = prefix.rstrip("/")
    if prefix in ("v1", "v2"):
        prefix = ""
    if prefix and path != prefix and not path.startswith(f"{prefix}/"):
        return None
    return 1 + len(prefix)


def of_secret(secret: dict[str, Any]) -> dict[str, Any]:
    """The entries of an image pull Secret; none of one that cannot be read."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            found = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths")
        else:
            found = json.loads(base64.b64decode(data.get(".dockercfg", "e30=")))
    except (ValueError, AttributeError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def of_file(path: str) -> dict[str, Any]:
    """The entries of the node's own file; none, and a line in the log, when it cannot be read."""
    if not path:
        return {}
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        found = json.loads(raw).get("auths") if len(raw) <= MAX_FILE_BYTES else None
    except OSError as error:
        _log.warning("registryCredentials: %s cannot be read: %s", path, error.strerror)
        return {}
    except (ValueError, AttributeError):
        found = None
    if not isinstance(found, dict):
        # What is in it stays out of the log.
        wanted = "wanted a JSON object with a mapping under auths, of at most 1 MiB"
        _log.warning("registryCredentials: %s cannot be read: %s", path, wanted)
        return {}
    return found


def _auth(entry: dict[str, Any]) -> dict[str, Any]:
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth") and not username:
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (ValueError, TypeError):
            username, password = "", ""
    return {
        "username": username,
        "password": password,
        "identity_token": entry.get("identitytoken", ""),
        "registry_token": entry.get("registrytoken", ""),
    }
