# SPDX-License-Identifier: Apache-2.0
"""What the node tells the cloud, kept in its store: newest per object, many in one transaction.

A change that someone waits for (a pod becomes Ready, fails, ends) is written at once; what the next
step is about to replace waits up to ``LATER_SECONDS``, so that an ordinary start is one report. The
link carries reports up and takes out the one-shot ones when they have arrived.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.api.keys import ObjectKey
from kedge.errors import KedgeError, StoreError
from kedge.store import Store, delete, put

if TYPE_CHECKING:
    from kedge.edge.kubelet.events import Recorder

STATIC = "pods/static"
"""Where the status of a static pod is kept, whether or not its mirror is there; it is not sent."""
LATER_SECONDS = 1.0
RETRY_SECONDS = 1.0
LAST_SECONDS = 2.0
"""How long an agent that ends may take for what it still has to say."""

_log = logging.getLogger(__name__)


def status_key(namespace: str, name: str) -> ObjectKey:
    """Where a pod's status is reported."""
    return ObjectKey("", "pods/status", namespace, name)


class Reporter:
    """Writes reports into the store.

    Args:
        store: the node's replica.
        node: the node's name.
    """

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._dirty: dict[ObjectKey, bytes | None] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._statuses: dict[ObjectKey, dict[str, Any]] = {}
        for resource in ("pods/status", STATIC):
            for item in store.list("", resource).items:
                self._statuses[item.key] = json.loads(item.value)
        self._mirrors: dict[str, str] = {}
        """By the UID of a static pod that of its mirror; empty while there is none."""

    def known(self, namespace: str, name: str, uid: str) -> dict[str, Any] | None:
        """The status last reported for this very pod."""
        key = status_key(namespace, name)
        for report in (self._statuses.get(key), self._statuses.get(key._replace(resource=STATIC))):
            if report is not None and report["metadata"].get("uid") == uid:
                status: dict[str, Any] = report.get("status") or {}
                return status
        return None

    def known_keys(self) -> list[ObjectKey]:
        """Every pod status kept now."""
        return list(self._statuses)

    def pod_status(self, pod: dict[str, Any], status: dict[str, Any], *, urgent: bool) -> None:
        """Reports a pod's status."""
        metadata = pod["metadata"]
        key = status_key(metadata["namespace"], metadata["name"])
        report = {"metadata": _identity(metadata), "status": status}
        mirror = self._mirrors.get(metadata["uid"])
        if mirror is not None:
            self._keep(key._replace(resource=STATIC), report, urgent=urgent)
            report = {"metadata": report["metadata"] | {"uid": mirror}, "status": status}
        if mirror != "":
            self._keep(key, report, urgent=urgent)

    def static_status_to(self, pod: dict[str, Any], mirror: str) -> None:
        """From now on the status of a static pod is that of its mirror too; of none, if empty."""
        metadata = pod["metadata"]
        before = self._mirrors.get(metadata["uid"])
        if before == mirror:
            return
        self._mirrors[metadata["uid"]] = mirror
        key = status_key(metadata["namespace"], metadata["name"])
        if before and self._statuses.get(key, {"metadata": {}})["metadata"].get("uid") == before:
            self.forget_key(key)
        status = self.known(metadata["namespace"], metadata["name"], metadata["uid"])
        if mirror and status is not None:
            self.pod_status(pod, status, urgent=True)

    def mirror(self, pod: dict[str, Any]) -> None:
        """Reports the mirror of a static pod, to be made."""
        metadata = pod["metadata"]
        key = ObjectKey("", "pods/mirror", metadata["namespace"], metadata["name"])
        self._put(key, pod, urgent=True)

    def _keep(self, key: ObjectKey, report: dict[str, Any], *, urgent: bool) -> None:
        self._statuses[key] = report
        self._put(key, report, urgent=urgent)

    def pod_deleted(self, pod: dict[str, Any]) -> None:
        """Reports that nothing of a pod is left here."""
        metadata = pod["metadata"]
        key = ObjectKey("", "pods/deleted", metadata["namespace"], metadata["name"])
        self._put(key, {"metadata": _identity(metadata)}, urgent=True)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """Takes back a pod's status, unless another pod of that name has one by now."""
        key = status_key(namespace, name)
        mirror = self._mirrors.pop(uid, None)
        for one, whose in ((key, uid), (key, mirror), (key._replace(resource=STATIC), uid)):
            report = self._statuses.get(one)
            if whose and report is not None and report["metadata"].get("uid") == whose:
                self.forget_key(one)

    def forget_key(self, key: ObjectKey) -> None:
        """Takes back a pod's status."""
        del self._statuses[key]
        self._dirty[key] = None
        self._wake.set()

    def node_registration(self, node: dict[str, Any]) -> None:
        """Reports the Node object to be created if it is absent."""
        self._put(ObjectKey("", "nodes/registration", "", self._node), node, urgent=True)

    def node_status(self, status: dict[str, Any]) -> None:
        """Reports the node's status."""
        report = {"metadata": {"name": self._node}, "status": status}
        self._put(ObjectKey("", "nodes/status", "", self._node), report, urgent=True)

    def csi_node(self, drivers: list[dict[str, Any]]) -> None:
        """Reports the node's CSI drivers: what its CSINode is to say."""
        report = {"metadata": {"name": self._node}, "spec": {"drivers": drivers}}
        self._put(ObjectKey("", "csinodes", "", self._node), report, urgent=True)

    def claim_size(self, claim: dict[str, Any], size: str) -> None:
        """Reports that a claim has the size that its volume has."""
        metadata = claim["metadata"]
        key = ObjectKey("", "persistentvolumeclaims/size", metadata["namespace"], metadata["name"])
        report = {"metadata": _identity(metadata), "status": {"capacity": {"storage": size}}}
        self._put(key, report, urgent=True)

    def _put(self, key: ObjectKey, report: dict[str, Any], *, urgent: bool) -> None:
        self._dirty[key] = json.dumps(report, separators=(",", ":")).encode()
        if urgent:
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATER_SECONDS, self._later)

    def _later(self) -> None:
        self._timer = None
        self._wake.set()

    async def run(self) -> None:
        """Writes reports until cancelled; a full disk delays them."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except StoreError as error:
                _log.error("reports wait, the store does not take them: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def flush(self) -> None:
        """Writes all that is dirty in one transaction.

        Raises:
            StoreError: nothing was written; all of it is still dirty.
        """
        batch, self._dirty = self._dirty, {}
        if not batch:
            return
        operations = [
            delete(key) if value is None else put(key, value)
            for key, value in batch.items()
            if value is not None or self._store.get(key) is not None
        ]
        if __debug__:
            faults.point("report.asked")
        try:
            await self._store.commit(operations)
        except StoreError:
            self._dirty = batch | self._dirty
            raise
        if __debug__:
            faults.point("report.written")


async def write_last(store: Store, reporter: Reporter, recorder: Recorder) -> None:
    """Writes what waits to be written, when neither they nor the store run any more.

    An agent that is told to end does this, so that the next one has it; a store that does not take it, or
    not in time, is only told in the log.
    """
    try:
        async with asyncio.timeout(LAST_SECONDS), asyncio.TaskGroup() as group:
            settling = group.create_task(store.run())
            await recorder.flush()
            await reporter.flush()
            settling.cancel()
    except* (KedgeError, TimeoutError) as errors:
        _log.warning("the last reports are not written: %r", errors.exceptions[0])


def _identity(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: metadata[key] for key in ("name", "namespace", "uid")}
