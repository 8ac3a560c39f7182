# SPDX-License-Identifier: Apache-2.0
"""Users that a pod has for itself (``hostUsers: false``): a range of the node's ids for each pod.

The range is written into the pod's directory before anything uses it, so it outlives the agent and
goes with the pod; what is taken is read from there. Ranges are 65,536 long, as in the kubelet, and
begin above the ids that the node itself may use.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.container.sandboxing import SandboxRefusedError
from kedge.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = 65536
MAX_RANGES = 1024
FILE = "userns"
_POD = 0


def options(pods: Path, uid: str) -> dict[str, Any]:
    """The runtime's ``UserNamespace`` for a pod; the same again when repeated.

    Args:
        pods: one directory per pod UID.
        uid: the pod's.

    Raises:
        SandboxRefusedError: all are taken.
        OSError: the range cannot be kept.
    """
    first = _read(pods / uid / FILE)
    if first is None:
        first = _take(pods, uid)
    mapping = [{"host_id": first, "container_id": 0, "length": LENGTH}]
    return {"mode": _POD, "uids": mapping, "gids": mapping}


def _take(pods: Path, uid: str) -> int:
    taken = {_read(path) for path in pods.glob(f"*/{FILE}")} if pods.exists() else set()
    for number in range(1, MAX_RANGES + 1):
        first = number * LENGTH
        if first not in taken:
            directory = pods / uid
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            entry = [{"hostId": first, "containerId": 0, "length": LENGTH}]
            content = json.dumps({"uidMappings": entry, "gidMappings": entry})
            write_whole(directory / FILE, content, 0o644)
            return first
    raise SandboxRefusedError(
        f"no range of user ids is left for the pod: all {MAX_RANGES} are taken"
    )


def _read(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text())["uidMappings"][0]["hostId"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
