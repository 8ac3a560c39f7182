# SPDX-License-Identifier: Apache-2.0
"""What the external-attacher does beside a driver, without a storage: attaches and detaches by saying so.

As the real one it holds each VolumeAttachment by a finalizer until it has detached, and tells what the node
needs to know in ``attachmentMetadata``. ``Attacher`` works over HTTP in a thread, ``attach_all`` in one
process with a control plane.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from kedge.errors import Conflict, NotFound
from tests.fakes.control_plane import MERGE, key
from tests.rig.api import Api, Failed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.control_plane import ControlPlane

PATH = "/apis/storage.k8s.io/v1/volumeattachments"
POLL_SECONDS = 0.1
Patch = tuple[str, dict[str, Any]]
"""A subresource, empty for the object itself, and a merge patch of it."""


def steps(attachment: dict[str, Any], driver: str, failure: str = "") -> list[Patch]:
    """What is to be written about one attachment now."""
    metadata, spec = attachment["metadata"], attachment["spec"]
    if spec["attacher"] != driver:
        return []
    mark = f"external-attacher/{driver.replace('.', '-')}"
    finalizers = metadata.get("finalizers") or []
    status = attachment.get("status") or {}
    if metadata.get("deletionTimestamp"):
        if mark not in finalizers:
            return []
        left = [one for one in finalizers if one != mark]
        return [
            ("status", {"status": {"attached": False}}),
            ("", {"metadata": {"finalizers": left}}),
        ]
    if failure:
        told = {"attached": False, "attachError": {"message": failure}}
        same = (status.get("attachError") or {}).get("message") == failure
        return [] if same else [("status", {"status": told})]
    if status.get("attached"):
        return []
    told = {
        "attached": True,
        "attachError": None,
        "attachmentMetadata": {"device": f"{spec['nodeName']}-1"},
    }
    return [("", {"metadata": {"finalizers": [*finalizers, mark]}}), ("status", {"status": told})]


async def attach_all(plane: ControlPlane, driver: str, failure: str = "") -> None:
    """Does once what the attacher has to do now."""
    for one in plane.all("volumeattachments"):
        for subresource, patch in steps(one, driver, failure):
            with contextlib.suppress(Conflict, NotFound):
                await plane.registry.patch(
                    key("volumeattachments", one["metadata"]["name"]),
                    patch,
                    MERGE,
                    **({"subresource": subresource} if subresource else {}),
                )


class Attacher:
    """The attacher of one driver, from ``start`` to ``stop``.

    Args:
        kubeconfig: of the API server.
        driver: whose volumes.
    """

    def __init__(self, kubeconfig: Path, driver: str) -> None:
        self._api = Api(kubeconfig)
        self._driver = driver
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._api.close()

    def _run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            with contextlib.suppress(Failed, OSError):
                for one in self._api.get(PATH)["items"]:
                    for subresource, patch in steps(one, self._driver):
                        end = f"/{subresource}" if subresource else ""
                        self._api.merge(f"{PATH}/{one['metadata']['name']}{end}", patch)
