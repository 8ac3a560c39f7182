# SPDX-License-Identifier: Apache-2.0
"""The kubeconfig with which root asks this node, and nobody else: stock kubectl without any cloud.

Its certificate is of the node's own authority, which only this node's MetaServer takes for its
clients, and names no user of the cluster: it reads what this node has and reaches its pods; what
the cloud must answer is refused (decision 0150).
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from kedge.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.edge.metaserver.identity import Identity

FILE = "kubeconfig"
"""In the MetaServer's directory."""
GROUP = "kedge:node-operators"
"""Who may do everything that a node can do by itself."""
POLICY = {"groups": [GROUP], "verbs": ["*"], "resources": ["*"], "urls": ["*"]}


def kubeconfig(own: Identity, node: str, host: str, port: int) -> dict[str, Any]:
    """The file's content.

    Args:
        own: the node's keys.
        node: its name.
        host: the address that the server listens on.
        port: the server's.
    """
    if host in ("0.0.0.0", "[::]"):  # noqa: S104 - it is compared, not bound
        host = "127.0.0.1"
    cluster = {
        "server": f"https://{host}:{port}",
        "certificate-authority-data": _data(own.authority),
    }
    user = {
        "client-certificate-data": _data(own.operator.certificate),
        "client-key-data": _data(own.operator.key),
    }
    name = f"node-{node}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes the file for root alone.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, json.dumps(content, indent=1) + "\n")


def _data(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
