# SPDX-License-Identifier: Apache-2.0
"""A node without containers: over the real API it does what a kubelet reports, and nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.rig.api import Api, Failed

POLL_SECONDS = 0.1


def stamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class FakeNode:
    """Registers a node, keeps it Ready, and makes every pod bound to it run, or go when it is deleted."""

    def __init__(self, kubeconfig: Path, name: str) -> None:
        self._api = Api(kubeconfig)
        self.name = name
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        status = {
            "capacity": {"cpu": "8", "memory": "16Gi", "pods": "110"},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "conditions": [self._ready()],
            "nodeInfo": {
                "kubeletVersion": "v1.36.0",
                "osImage": "none",
                "kernelVersion": "none",
                "containerRuntimeVersion": "fake://1",
            },
        }
        labels = {"kubernetes.io/hostname": self.name}
        self._api.create(
            "/api/v1/nodes", {"metadata": {"name": self.name, "labels": labels}, "status": status}
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join(10)
        self._api.close()
        if self.failure is not None:
            raise self.failure

    def _ready(self) -> dict[str, str]:
        return {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": stamp(),
            "lastTransitionTime": stamp(),
        }

    def _run(self) -> None:
        beats = 0.0
        try:
            while not self._ends.wait(POLL_SECONDS):
                if time.monotonic() - beats > 5:
                    beats = time.monotonic()
                    self._tolerating(
                        self._api.merge,
                        f"/api/v1/nodes/{self.name}/status",
                        {"status": {"conditions": [self._ready()]}},
                    )
                for pod in self._api.get("/api/v1/pods?fieldSelector=spec.nodeName=" + self.name)[
                    "items"
                ]:
                    self._tolerating(self._sync, pod)
        except Exception as error:
            self.failure = error

    def _tolerating(self, call: Any, *arguments: Any) -> None:
        """What vanished or changed meanwhile is met again at the next turn."""
        try:
            call(*arguments)
        except Failed as error:
            if error.code not in (404, 409):
                raise

    def _sync(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if "deletionTimestamp" in metadata:
            self._api.delete(
                path, {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            )
        elif pod["status"].get("phase") not in ("Running", "Succeeded", "Failed"):
            names = [container["name"] for container in pod["spec"]["containers"]]
            now = stamp()
            ready = [
                {"type": kind, "status": "True", "lastTransitionTime": now}
                for kind in ("Ready", "ContainersReady", "Initialized")
            ]
            statuses = [
                {
                    "name": name,
                    "ready": True,
                    "restartCount": 0,
                    "image": "x",
                    "imageID": "x",
                    "state": {"running": {"startedAt": now}},
                }
                for name in names
            ]
            kept = [
                one for one in pod["status"].get("conditions", []) if one["type"] == "PodScheduled"
            ]
            status = {
                "phase": "Running",
                "podIP": "10.0.0.1",
                "startTime": now,
                "conditions": kept + ready,
                "containerStatuses": statuses,
            }
            self._api.merge(path + "/status", {"status": status})
