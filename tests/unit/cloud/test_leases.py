# SPDX-License-Identifier: Apache-2.0
"""A Lease is renewed at once, goes on with the session, and ends with it."""

from __future__ import annotations

import asyncio
import datetime as dt

from kedge.api.keys import ObjectKey
from kedge.cloud.leases import Leases, new_lease, spec
from kedge.cloud.sessions import Session, Sessions
from kedge.errors import Disconnected
from tests.fakes.kubernetes import FakeApi, FakeMirror

KEY = ObjectKey("coordination.k8s.io", "leases", "kube-node-lease", "a")
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)


async def test_a_lease_is_made_then_renewed_and_left_when_the_session_ends(monkeypatch):
    monkeypatch.setattr("kedge.cloud.leases.RETRY_SECONDS", 0.01)
    api, mirror, sessions = FakeApi(), FakeMirror(), Sessions()
    mirror.put(ObjectKey("", "nodes", "", "a"), {"metadata": {"name": "a", "uid": "n1"}})
    api.failures = [Disconnected("away")]
    leases = Leases(api, mirror, sessions, every_seconds=0.02, reached_at="127.0.0.1:1")
    task = asyncio.get_running_loop().create_task(leases.run())
    sessions.connected(Session(1, "a"))
    leases.connected("a")
    async with asyncio.timeout(10):
        while len(api.calls) < 4:
            await asyncio.sleep(0.01)
    sessions.disconnected("a", 1)
    await asyncio.sleep(0.05)
    renewed = len(api.calls)
    await asyncio.sleep(0.1)
    task.cancel()
    assert len(api.calls) == renewed
    assert api.objects[KEY]["metadata"]["ownerReferences"][0]["uid"] == "n1"


def test_a_lease_says_who_when_and_how_long():
    assert spec("a", NOW) == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 40,
        "renewTime": "2026-01-02T03:04:05.000006Z",
    }
    assert "ownerReferences" not in new_lease("a", "", NOW)["metadata"]
