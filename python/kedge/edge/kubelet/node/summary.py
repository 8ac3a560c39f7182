# SPDX-License-Identifier: Apache-2.0
"""``status.json`` in the node's directory: what ``kedge status`` shows, also while nothing answers.

Written whole and swapped in, at most every ``WRITE_SECONDS``, and only when something changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod.lifecycle import format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.kubelet.worker import PodWorker

WRITE_SECONDS = 2.0
REFRESH_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Summary:
    """Keeps the file current.

    Args:
        path: the file.
        gather: what it is to say now, but for the time and this process.
        version: the agent's.
    """

    def __init__(self, path: Path, gather: Callable[[], dict[str, Any]], version: str) -> None:
        self._path = path
        self._gather = gather
        self._version = version
        self._said = ""
        self._said_at = 0.0

    async def run(self) -> None:
        """Looks now and then, writes what is new, until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(WRITE_SECONDS)

    def write(self) -> None:
        """Writes the file if it says something new, or is old."""
        content = self._gather()
        said = json.dumps(content, sort_keys=True)
        now = time.monotonic()
        if said == self._said and now < self._said_at + REFRESH_SECONDS:
            return
        agent = {"pid": os.getpid(), "version": self._version, "rssBytes": resident_bytes()}
        whole = {"time": format_time(time.time()), "agent": agent} | content
        temporary = self._path.with_suffix(".json.new")
        try:
            temporary.write_text(json.dumps(whole, indent=1) + "\n")
            temporary.chmod(0o600)
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error.strerror)
            return
        self._said, self._said_at = said, now


def pod_summary(worker: PodWorker) -> dict[str, Any]:
    """One pod in few words."""
    metadata, status = worker.pod["metadata"], worker.status
    statuses = status.get("containerStatuses") or []
    waiting = [
        one["state"]["waiting"].get("reason", "")
        for one in statuses
        if "waiting" in one.get("state", {})
    ]
    ready = sum(bool(one.get("ready")) for one in statuses)
    found = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": worker.uid,
        "phase": "Terminating" if worker.is_ending() else status.get("phase", "Pending"),
        "ready": f"{ready}/{len(worker.pod['spec'].get('containers') or [])}",
        "restarts": sum(int(one.get("restartCount", 0)) for one in statuses),
    }
    reason = status.get("reason") or next(iter(waiting), "")
    return found | ({"reason": reason} if reason else {})


def resident_bytes() -> int:
    """VmRSS of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
