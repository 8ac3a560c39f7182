# SPDX-License-Identifier: Apache-2.0
"""Events that ``kubectl describe`` shows: counted when they repeat, bounded in rate and number.

Recording never waits: the recorder keeps what is new and writes it in one transaction shortly
after. An event leaves the store when the cloud has it; the same happening again is written again
with its count. Offline for weeks, a node keeps the newest ``MAX_WAITING`` and drops older ones.

The cloud takes events of pods that it knows. Those of a static pod without a mirror are held in the
store, under another resource that is not sent, until the mirror is there. They name the static pod's UID,
as a kubelet's do: ``kubectl describe`` of a mirror asks for that one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge import metrics
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.pod.lifecycle import field as field_of
from kedge.edge.kubelet.pod.lifecycle import format_time
from kedge.errors import StoreError
from kedge.store import Op, Store, delete, put

if TYPE_CHECKING:
    from collections.abc import Callable

HELD = "events/held"
"""Where events wait that the cloud would not take yet; it is not sent."""
MAX_WAITING = 500
MAX_KNOWN = 1000
MAX_MESSAGE_CHARACTERS = 1024
BURST = 25
REFILL_SECONDS = 300.0
FLUSH_SECONDS = 0.2
RETRY_SECONDS = 2.0
MAX_RETRIED = 100

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Series:
    """One kind of happening to one object."""

    key: ObjectKey
    event: dict[str, Any]


@dataclass(slots=True)
class _Allowance:
    """How many more writes an object's events have."""

    left: float = BURST
    at: float = field(default=0.0)

    def take(self, now: float) -> bool:
        self.left = min(BURST, self.left + (now - self.at) / REFILL_SECONDS)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Recorder:
    """Keeps and writes the node's events.

    Args:
        store: where they wait for the cloud.
        node: the node's name, which is their source.
        clock: seconds since the epoch.
    """

    def __init__(self, store: Store, node: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._new: dict[ObjectKey, dict[str, Any]] = {}
        self._waiting: OrderedDict[ObjectKey, None] = OrderedDict()
        found = store.list("", HELD).items
        self._unknown = {_about(json.loads(one.value)) for one in found}
        self._settled: dict[str, bool] = {}
        """By UID what becomes of held events with the next writing: sent, or dropped."""
        self._wake = asyncio.Event()
        self._sequence = int(clock() * 1e9)

    def pod(
        self,
        pod: dict[str, Any],
        reason: str,
        message: str,
        *,
        container: str = "",
        warning: bool = False,
    ) -> None:
        """Records something that happened to a pod or one of its containers."""
        metadata = pod["metadata"]
        involved = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        if container:
            involved["fieldPath"] = f"spec.{field_of(pod, container)}{{{container}}}"
        self._record(involved, metadata["namespace"], reason, message, warning=warning)

    def node(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Records something that happened to the node."""
        involved = {"kind": "Node", "name": self._node, "uid": self._node}
        self._record(involved, "default", reason, message, warning=warning)

    def hold(self, uid: str) -> None:
        """The cloud does not know the pod of this UID yet."""
        self._unknown.add(uid)
        self._settled.pop(uid, None)

    def release(self, uid: str, *, is_known: bool = True) -> None:
        """The cloud knows it now; or it never will, and what is held of it goes."""
        if uid in self._unknown:
            self._unknown.remove(uid)
            self._settled[uid] = is_known
            self._wake.set()

    def held(self) -> set[str]:
        """The UIDs of pods whose events are held."""
        return set(self._unknown)

    def _record(
        self, involved: dict[str, str], namespace: str, reason: str, message: str, *, warning: bool
    ) -> None:
        now = self._clock()
        message = message[:MAX_MESSAGE_CHARACTERS]
        kind = "Warning" if warning else "Normal"
        allowance = self._allowances.setdefault(involved["uid"], _Allowance(at=now))
        self._allowances.move_to_end(involved["uid"])
        _shorten(self._allowances)
        if not allowance.take(now):
            metrics.count("kedge_events_dropped_total")
            return
        identity = (involved["uid"], involved.get("fieldPath", ""), kind, reason, message)
        series = self._series.get(identity)
        if series is None:
            series = self._series[identity] = self._begin(involved, namespace, now)
            series.event |= {"reason": reason, "message": message, "type": kind}
        else:
            series.event["count"] += 1
            series.event["lastTimestamp"] = format_time(now)
        self._series.move_to_end(identity)
        _shorten(self._series)
        self._new[series.key] = series.event
        self._wake.set()

    def _begin(self, involved: dict[str, str], namespace: str, now: float) -> _Series:
        self._sequence += 1
        name = f"{involved['name']}.{self._sequence:x}"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "creationTimestamp": format_time(now),
            },
            "involvedObject": involved,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
            "firstTimestamp": format_time(now),
            "lastTimestamp": format_time(now),
            "count": 1,
        }
        return _Series(ObjectKey("", "events", namespace, name), event)

    async def run(self) -> None:
        """Writes what is recorded, until cancelled."""
        for resource in ("events", HELD):
            for item in self._store.list("", resource).items:
                self._waiting[item.key] = None
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._wake.clear()
            await self.flush()
            if self._new or self._settled:
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def flush(self) -> None:
        """Writes what is new in one transaction; a store that is full gets the newest again later."""
        new, self._new = self._new, {}
        settled, self._settled = self._settled, {}
        operations = self._settle(settled) if settled else []
        if not new and not operations:
            return
        for key, event in new.items():
            kept = key._replace(resource=HELD) if _about(event) in self._unknown else key
            operations.append(put(kept, json.dumps(event, separators=(",", ":")).encode()))
            self._waiting[kept] = None
            self._waiting.move_to_end(kept)
        while len(self._waiting) > MAX_WAITING:
            oldest, _ = self._waiting.popitem(last=False)
            if self._store.get(oldest) is not None:
                operations.append(delete(oldest))
        try:
            await self._store.commit(operations)
        except StoreError as error:
            retried = list(new.items())[-MAX_RETRIED:]
            self._new = dict(retried) | self._new
            late = {uid: one for uid, one in settled.items() if uid not in self._unknown}
            self._settled = late | self._settled
            if len(new) > len(retried):
                metrics.count("kedge_events_dropped_total", len(new) - len(retried))
            _log.warning("events wait, the store does not take them: %s", error)

    def _settle(self, settled: dict[str, bool]) -> list[Op]:
        """Lets held events go up, or away."""
        operations: list[Op] = []
        for item in self._store.list("", HELD).items:
            is_known = settled.get(_about(json.loads(item.value)))
            if is_known is None:
                continue
            operations.append(delete(item.key))
            self._waiting.pop(item.key, None)
            if is_known:
                key = item.key._replace(resource="events")
                operations.append(put(key, item.value))
                self._waiting[key] = None
        return operations


def _about(event: dict[str, Any]) -> str:
    return str(event["involvedObject"]["uid"])


def _shorten(table: OrderedDict[Any, Any]) -> None:
    while len(table) > MAX_KNOWN:
        table.popitem(last=False)
