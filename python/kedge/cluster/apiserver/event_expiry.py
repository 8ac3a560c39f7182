# SPDX-License-Identifier: Apache-2.0
"""Events go when nobody has seen them again for their time to live."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.meta import timestamp
from kedge.errors import Conflict, NotFound, StoreError
from kedge.store import delete

if TYPE_CHECKING:
    from kedge.store import Listed, Store

log = logging.getLogger(__name__)

PAGE = 500
MAX_EVERY_SECONDS = 60.0


class EventExpiry:
    """Removes old Events, now and then.

    Args:
        store: where they are.
        ttl_seconds: how long one stays after it was last seen.
    """

    def __init__(self, store: Store, ttl_seconds: float) -> None:
        self._store = store
        self._ttl = ttl_seconds

    async def run(self) -> None:
        """Looks every minute until cancelled."""
        while True:
            await asyncio.sleep(min(MAX_EVERY_SECONDS, self._ttl))
            try:
                await self.sweep(time.time())
            except StoreError as error:
                log.warning("old Events could not be removed", extra={"error": str(error)})

    async def sweep(self, now: float) -> int:
        """Removes what is too old; how many those were."""
        limit, token, removed = timestamp(now - self._ttl), "", 0
        while True:
            page = self._store.list("", "events", limit=PAGE, continue_token=token)
            for row in page.items:
                if last_seen(orjson.loads(row.value)) < limit:
                    removed += await self._remove(row)
            token = page.continue_token
            if not token:
                return removed
            await asyncio.sleep(0)

    async def _remove(self, row: Listed) -> int:
        try:
            await self._store.commit([delete(row.key, row.revision)])
        except (Conflict, NotFound):
            return 0
        return 1


def last_seen(event: dict[str, Any]) -> str:
    """The latest of the times that an Event carries; RFC 3339 in UTC sorts as text."""
    times = (
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        (event.get("series") or {}).get("lastObservedTime"),
    )
    return max((text for text in times if text), default="")
