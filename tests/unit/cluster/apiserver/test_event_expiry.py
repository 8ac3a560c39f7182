# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

from kedge.api.keys import ObjectKey
from kedge.api.meta import timestamp
from kedge.cluster.apiserver.event_expiry import EventExpiry


async def test_events_go_an_hour_after_they_were_last_seen(registry):
    now = time.time()
    for name, seen in (("old", now - 10), ("again", now + 1800)):
        body = {
            "metadata": {"name": name},
            "involvedObject": {"namespace": "default"},
            "lastTimestamp": timestamp(seen),
        }
        await registry.create(ObjectKey("", "events", "default", name), body)
    expiry = EventExpiry(registry.store, 3600)
    assert await expiry.sweep(now) == 0
    assert await expiry.sweep(now + 3700) == 1
    assert [event["metadata"]["name"] for event in registry.list("", "events")] == ["again"]
