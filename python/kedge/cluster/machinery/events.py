# SPDX-License-Identifier: Apache-2.0
"""Events for people: created once, counted up when they repeat, dropped before they become a load.

``record`` never waits. Each object may bring a burst of events and then one every now and then, as
upstream's recorder allows; what is over that, or over the queue's bound, is counted and dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.times import text_of
from kedge.errors import KedgeError, NotFound

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client

_log = logging.getLogger(__name__)

NORMAL = "Normal"
WARNING = "Warning"

QUEUE_LIMIT = 1_000
KNOWN_LIMIT = 2_048
BURST = 25
SECONDS_PER_TOKEN = 300.0


@dataclass(frozen=True, slots=True)
class Reference:
    """The object that an event is about."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Fact:
    """One thing that happened."""

    about: Reference
    kind: str
    reason: str
    message: str
    at: float

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Facts with the same identity are one event that repeats."""
        about = self.about
        return (
            about.uid or f"{about.namespace}/{about.name}",
            self.kind,
            self.reason,
            self.message,
        )

    def event_name(self) -> str:
        text = "\0".join((*self.identity, repr(self.at)))
        return f"{self.about.name[:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(slots=True)
class _Series:
    """One event as written, and how often it happened."""

    key: ObjectKey
    count: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class Recorder:
    """Writes the events of one component.

    Args:
        client: writes them.
        component: the ``source.component``.
    """

    def __init__(self, client: Client, component: str) -> None:
        self._client = client
        self._component = component
        self._queue: deque[_Fact] = deque()
        self._wake = asyncio.Event()
        self._known: OrderedDict[tuple[str, str, str, str], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.dropped = 0

    def record(self, about: Reference, kind: str, reason: str, message: str) -> None:
        """Says that something happened to an object.

        Args:
            about: the object.
            kind: ``NORMAL`` or ``WARNING``.
            reason: a CamelCase word.
            message: for a person.
        """
        now = time.time()
        if len(self._queue) >= QUEUE_LIMIT or not self._allowed(about.uid or about.name, now):
            self.dropped += 1
            return
        self._queue.append(_Fact(about, kind, reason, message[:1024], now))
        self._wake.set()

    async def run(self) -> None:
        """Writes what was recorded, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                fact = self._queue.popleft()
                try:
                    await self._write(fact)
                except KedgeError as error:
                    self.dropped += 1
                    _log.debug(
                        "an event could not be written reason=%s error=%s", fact.reason, error
                    )

    def _allowed(self, source: str, now: float) -> bool:
        bucket = self._buckets.setdefault(source, _Bucket(BURST, now))
        self._buckets.move_to_end(source)
        if len(self._buckets) > KNOWN_LIMIT:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled) / SECONDS_PER_TOKEN)
        bucket.filled = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def _write(self, fact: _Fact) -> None:
        identity = fact.identity
        series = self._known.get(identity)
        if series is not None and await self._count_up(series, fact.at):
            self._known.move_to_end(identity)
            return
        key = ObjectKey("", "events", fact.about.namespace or "default", fact.event_name())
        await self._client.create(key, self._event(key, fact))
        self._known[identity] = _Series(key, 1)
        if len(self._known) > KNOWN_LIMIT:
            self._known.popitem(last=False)

    async def _count_up(self, series: _Series, now: float) -> bool:
        change = {"count": series.count + 1, "lastTimestamp": text_of(now)}
        try:
            await self._client.patch(series.key, change)
        except NotFound:
            return False
        series.count += 1
        return True

    def _event(self, key: ObjectKey, fact: _Fact) -> dict[str, Any]:
        about = fact.about
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "involvedObject": {
                "kind": about.kind,
                "apiVersion": about.api_version,
                "name": about.name,
                "uid": about.uid,
                **({"namespace": about.namespace} if about.namespace else {}),
            },
            "type": fact.kind,
            "reason": fact.reason,
            "message": fact.message,
            "count": 1,
            "firstTimestamp": text_of(fact.at),
            "lastTimestamp": text_of(fact.at),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
        }
