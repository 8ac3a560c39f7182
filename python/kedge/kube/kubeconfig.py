# SPDX-License-Identifier: Apache-2.0
"""Reading a kubeconfig file: the current context's server and credentials, inline or in files.

Not here: exec plugins and auth providers, which would run programs, and servers whose certificate
is not verified; both are refused with a message that says so.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.config import read_yaml
from kedge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where an API server is and who we are; PEM texts, empty where there is none."""

    server: str
    ca: str
    certificate: str = ""
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    server_name: str = ""


def load(path: Path, context: str = "") -> Cluster:
    """The cluster of a context, the current one unless ``context`` names another.

    Raises:
        ConfigError: the file is no kubeconfig or asks for what is not supported.
    """
    config = read_yaml(path)
    name = context or config.get("current-context") or ""
    if not name:
        raise ConfigError(f"{path}: current-context: missing, wanted the name of a context")
    chosen = _entry(path, config, "contexts", "context", name)
    cluster = _entry(path, config, "clusters", "cluster", str(chosen.get("cluster", "")))
    user = _entry(path, config, "users", "user", str(chosen.get("user", "")))
    for unsupported in ("exec", "auth-provider", "username"):
        if unsupported in user:
            raise ConfigError(
                f"{path}: users: {unsupported}: not supported, wanted a certificate or token"
            )
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigError(
            f"{path}: clusters: insecure-skip-tls-verify: not supported, wanted certificate-authority"
        )
    token_file = user.get("tokenFile")
    return Cluster(
        server=str(cluster.get("server", "")),
        ca=_pem(path, cluster, "certificate-authority"),
        certificate=_pem(path, user, "client-certificate"),
        key=_pem(path, user, "client-key"),
        token=str(user.get("token", "")),
        token_file=path.parent / token_file if token_file else None,
        server_name=str(cluster.get("tls-server-name", "")),
    )


def _entry(
    path: Path, config: dict[str, Any], plural: str, singular: str, name: str
) -> dict[str, Any]:
    entries = config.get(plural)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(singular)
            if isinstance(found, dict):
                return found
    raise ConfigError(f"{path}: {plural}: no entry named: {name!r}")


def _pem(path: Path, entry: dict[str, Any], name: str) -> str:
    inline = entry.get(f"{name}-data")
    if inline:
        try:
            return base64.b64decode(str(inline), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {name}-data: not base64 of a PEM text: {error}") from error
    file = entry.get(name)
    if not file:
        return ""
    try:
        return (path.parent / str(file)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {name}: cannot be read: {error}") from error
