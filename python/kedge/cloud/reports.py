# SPDX-License-Identifier: Apache-2.0
"""What nodes report, written to the Kubernetes API.

Each report is about one object; only the newest of each object waits, one at a time is written, and
``workers`` objects are written at once. A node's report is acknowledged after the API answered, so
that nothing acknowledged is lost; while the API is away, reports wait here and the link's window
holds the node back. A superseded report is acknowledged together with the one that replaced it. A
refusal that will not change is told to the node (``nack``); an object that is gone is done. What
the API forbids is tried again, and said once a minute for each kind of report: it is this role's rights
that are wrong, not the report.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from kedge import metrics
from kedge.aio import Backoff, KeyedQueue
from kedge.api.keys import ObjectKey
from kedge.cloud.mirror_pods import mirror_pod
from kedge.cloud.rates import Rates
from kedge.cloud.registration import register
from kedge.cloud.status_patches import claim_patch, named, status_patch
from kedge.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    KedgeError,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from kedge.kube import MERGE, STRATEGIC

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kedge.cloud.sessions import Sessions
    from kedge.kube import KubeClient
    from kedge.store import Store

log = logging.getLogger(__name__)

PERMANENT = (BadRequest, Invalid, TooLarge, UnsupportedMediaType)
NODE_ATTEMPTS = 8
"""How often a status waits for its Node to be registered before it is refused."""


class TooEarlyError(KedgeError):
    """Another report has to be written first."""


class Acknowledger(Protocol):
    """The part of the hub that this module needs."""

    def ack(self, session: int, seqs: list[int]) -> None:
        """These reports are in the API."""

    def nack(self, session: int, seq: int, reason: str) -> None:
        """This report will never be taken."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one node says of one object.

    Attributes:
        node: who says it.
        session: over which session.
        seq: its number there.
        key: the object, with the resource as ``pods/status`` and the like.
        value: JSON; empty when the node withdrew it.
    """

    node: str
    session: int
    seq: int
    key: ObjectKey
    value: bytes


@dataclass(slots=True)
class _Waiting:
    """The newest report of an object, and the numbers of those it replaced."""

    report: Report
    seqs: list[int]
    backoff: Backoff = field(default_factory=lambda: Backoff(0.1, 10.0))


_Slot = tuple[str, ObjectKey]


class Reports:
    """Takes reports from the hub and writes them to the API.

    Args:
        client: the API.
        mirror: what the API is known to say.
        sessions: whose reports count.
        hub: gets the acknowledgements.
        workers: how many objects are written at once.
        node_domain: where nodes' kubelets are asked by name (``CloudConfig``).
        clock: seconds, for how often something is said.
    """

    def __init__(
        self,
        client: KubeClient,
        mirror: Store,
        sessions: Sessions,
        hub: Acknowledger,
        *,
        workers: int,
        node_domain: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._sessions = sessions
        self._hub = hub
        self._node_domain = node_domain
        self._workers = workers
        self._clock = clock
        self._forbidden_told = Rates(per_minute=1)
        self._waiting: dict[str, dict[ObjectKey, _Waiting]] = {}
        self._queue: KeyedQueue[_Slot] = KeyedQueue()
        self._registering: set[str] = set()
        self._writers: dict[str, Callable[[Report], Awaitable[None]]] = {
            "pods/status": self._pod_status,
            "pods/deleted": self._pod_deleted,
            "pods/mirror": self._mirror_pod,
            "nodes/registration": self._registration,
            "nodes/status": self._node_status,
            "events": self._event,
            "csinodes": self._csi_node,
            "persistentvolumeclaims/size": self._claim_size,
        }

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def submit(self, report: Report) -> None:
        """Takes one report; it replaces an older one of the same object that still waits."""
        of_node = self._waiting.setdefault(report.node, {})
        waiting = of_node.get(report.key)
        if waiting is None or waiting.report.session != report.session:
            of_node[report.key] = _Waiting(report, [report.seq])
        else:
            waiting.report = report
            waiting.seqs.append(report.seq)
        self._queue.add((report.node, report.key))

    def forget(self, node: str, session: int) -> None:
        """Drops what waits from a session that ended: its node sends it again to whom it finds."""
        of_node = self._waiting.pop(node, {})
        newer = {key: one for key, one in of_node.items() if one.report.session != session}
        if newer:
            self._waiting[node] = newer

    async def run(self) -> None:
        """Writes reports until cancelled."""
        await self._queue.work(self._work, workers=self._workers, failed=self._broken)

    async def _work(self, slot: _Slot) -> None:
        waiting = self._take(slot)
        if waiting is None:
            return
        report = waiting.report
        try:
            await self._write(report)
        except PERMANENT as error:
            self._refuse(waiting, str(error))
        except KedgeError as error:
            if isinstance(error, NotFound) and waiting.backoff.attempts >= NODE_ATTEMPTS:
                self._refuse(waiting, str(error))
                return
            self._again(slot, waiting, error)
        else:
            self._hub.ack(report.session, waiting.seqs)
            metrics.count("kedge_reports_total", resource=report.key.resource, result="written")

    def _take(self, slot: _Slot) -> _Waiting | None:
        node, key = slot
        of_node = self._waiting.get(node, {})
        waiting = of_node.pop(key, None)
        if not of_node:
            self._waiting.pop(node, None)
        return waiting

    async def _write(self, report: Report) -> None:
        if not report.value:
            return
        writer = self._writers.get(report.key.resource)
        if writer is None:
            raise Invalid(f"report: unknown resource: {report.key.resource}")
        await writer(report)

    def _refuse(self, waiting: _Waiting, reason: str) -> None:
        report = waiting.report
        log.warning("report refused node=%s object=%s cause=%s", report.node, report.key, reason)
        metrics.count("kedge_reports_total", resource=report.key.resource, result="refused")
        for seq in waiting.seqs:
            self._hub.nack(report.session, seq, reason)

    def _again(self, slot: _Slot, waiting: _Waiting, error: KedgeError) -> None:
        """Puts a report back, unless a newer one came meanwhile: that one then carries its number.

        The report of a session that ended is dropped: its node may be at another replica by now,
        whose newer report must not be overwritten.
        """
        current = self._sessions.get(slot[0])
        if current is None or current.id != waiting.report.session:
            return
        of_node = self._waiting.setdefault(slot[0], {})
        newer = of_node.get(slot[1])
        if newer is None:
            of_node[slot[1]] = waiting
        elif newer.report.session == waiting.report.session:
            newer.seqs[:0] = waiting.seqs
            newer.backoff = waiting.backoff
        delay = waiting.backoff.next_seconds()
        log.debug("report waits object=%s seconds=%.2f cause=%s", slot[1], delay, error)
        if isinstance(error, Forbidden) and self._forbidden_told.allow(
            slot[1].resource, self._clock()
        ):
            text = "report waits for a right that this role lacks node=%s object=%s cause=%s"
            log.warning(text, *slot, error)
        metrics.count("kedge_reports_total", resource=slot[1].resource, result="retried")
        self._queue.add_after(slot, delay)

    def _broken(self, slot: _Slot, error: Exception) -> None:
        """A defect of ours: the report stays unacknowledged and the node sends it again."""
        log.error("report failed object=%s", slot[1], exc_info=error)

    async def _pod_status(self, report: Report) -> None:
        reported = decode(report)
        key = ObjectKey("", "pods", report.key.namespace, report.key.name)
        uid = str(reported.get("metadata", {}).get("uid", ""))
        known = self._known(key)
        if known is not None and known["metadata"].get("uid") != uid:
            known = None
        patch = status_patch(reported["status"], (known or {}).get("status"), uid)
        try:
            await self._client.patch(key, patch, content_type=STRATEGIC, subresource="status")
        except (NotFound, Conflict):
            log.debug("status of a pod that is gone pod=%s/%s", key.namespace, key.name)

    async def _pod_deleted(self, report: Report) -> None:
        uid = decode(report)["metadata"]["uid"]
        key = ObjectKey("", "pods", report.key.namespace, report.key.name)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        try:
            await self._client.delete(key, options)
        except (NotFound, Conflict):
            log.debug("a deleted pod is gone already pod=%s/%s", key.namespace, key.name)

    async def _mirror_pod(self, report: Report) -> None:
        key = ObjectKey("", "pods", report.key.namespace, report.key.name)
        node = await self._client.get(ObjectKey("", "nodes", "", report.node))
        try:
            await self._client.create(key, mirror_pod(decode(report), node))
            log.info("mirror pod made pod=%s/%s node=%s", key.namespace, key.name, report.node)
        except AlreadyExists:
            log.debug("a mirror pod is there already pod=%s/%s", key.namespace, key.name)
        except (
            Forbidden
        ) as error:  # its namespace ends, or this role's rights are wrong: the node asks again
            log.warning("mirror pod not made pod=%s/%s: %s", key.namespace, key.name, error)

    async def _node_status(self, report: Report) -> None:
        """Writes a Node's status, but never before its registration: taints must be there first."""
        registration = ObjectKey("", "nodes/registration", "", report.key.name)
        waits = registration in self._waiting.get(report.node, {})
        if waits or report.node in self._registering:
            raise TooEarlyError(f"node {report.node}: its registration is not written yet")
        key = ObjectKey("", "nodes", "", report.node)
        known = self._known(key)
        status = named(decode(report)["status"], report.node, self._node_domain)
        patch = status_patch(status, (known or {}).get("status"))
        await self._client.patch(key, patch, content_type=STRATEGIC, subresource="status")

    async def _registration(self, report: Report) -> None:
        self._registering.add(report.node)
        try:
            await self._register(report)
        finally:
            self._registering.discard(report.node)

    async def _register(self, report: Report) -> None:
        key = ObjectKey("", "nodes", "", report.node)
        if patch := register(decode(report), await self._client.get(key)):
            await self._client.patch(key, patch, content_type=MERGE)
            log.info("node registered node=%s changed=%s", report.node, ",".join(patch))

    async def _csi_node(self, report: Report) -> None:
        """Writes which CSI drivers a node has; its CSINode is made when there are any."""
        spec = decode(report).get("spec")
        if not isinstance(spec, dict) or not isinstance(spec.get("drivers"), list):
            raise Invalid(f"report of {report.key}: wanted spec.drivers")
        key = ObjectKey("storage.k8s.io", "csinodes", "", report.node)
        changes = {"spec": {"drivers": spec["drivers"]}}
        try:
            await self._client.patch(key, changes, content_type=MERGE)
        except NotFound:
            if spec["drivers"]:
                await self._client.create(key, await self._new_csi_node(report.node) | changes)

    async def _new_csi_node(self, node: str) -> dict[str, Any]:
        owner = await self._client.get(ObjectKey("", "nodes", "", node))
        reference = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": node,
            "uid": owner["metadata"]["uid"],
        }
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSINode",
            "metadata": {"name": node, "ownerReferences": [reference]},
        }

    async def _claim_size(self, report: Report) -> None:
        """Writes that a claim has all of its volume: what it asked for has come."""
        key = ObjectKey("", "persistentvolumeclaims", report.key.namespace, report.key.name)
        known = self._known(key)
        if known is None:
            return
        name = (known.get("spec") or {}).get("volumeName") or ""
        volume = self._known(ObjectKey("", "persistentvolumes", "", name))
        patch = claim_patch(decode(report), known, volume)
        if patch:
            await self._client.patch(key, patch, content_type=STRATEGIC, subresource="status")

    async def _event(self, report: Report) -> None:
        event = decode(report)
        key = ObjectKey("", "events", report.key.namespace, report.key.name)
        try:
            await self._client.create(key, event)
        except AlreadyExists:
            fields = ("count", "lastTimestamp", "message", "series", "type", "reason")
            patch = {name: event[name] for name in fields if name in event}
            await self._client.patch(key, patch, content_type=MERGE)
        except (NotFound, Forbidden):  # forbidden is what a namespace that ends answers
            log.debug("event in a namespace that is gone namespace=%s", key.namespace)

    def _known(self, key: ObjectKey) -> dict[str, Any] | None:
        stored = self._mirror.get(key)
        if stored is None:
            return None
        known: dict[str, Any] = orjson.loads(stored.value)
        return known


def decode(report: Report) -> dict[str, Any]:
    """The object in a report.

    Raises:
        Invalid: not a JSON object, or a part is missing that every report of its kind has.
    """
    try:
        value = orjson.loads(report.value)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"report of {report.key}: not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        raise Invalid(f"report of {report.key}: wanted an object with metadata")
    if report.key.resource.endswith("/status") and not isinstance(value.get("status"), dict):
        raise Invalid(f"report of {report.key}: wanted a status")
    if report.key.resource == "pods/deleted" and not isinstance(value["metadata"].get("uid"), str):
        raise Invalid(f"report of {report.key}: wanted metadata.uid")
    return value
