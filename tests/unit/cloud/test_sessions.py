# SPDX-License-Identifier: Apache-2.0
"""Of two sessions of one node the newest counts."""

from __future__ import annotations

from kedge.cloud.sessions import Session, Sessions


def test_the_end_of_an_older_session_does_not_end_the_newer():
    sessions = Sessions()
    sessions.connected(Session(1, "a"))
    sessions.connected(Session(2, "a"))
    assert not sessions.disconnected("a", 1)
    assert [session.id for session in sessions] == [2]
    assert sessions.disconnected("a", 2)
    assert not sessions.disconnected("a", 2)
    assert len(sessions) == 0
    assert sessions.get("a") is None
