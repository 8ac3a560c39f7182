# SPDX-License-Identifier: Apache-2.0
"""Which pod is tried next, and when one that found no node is tried again."""

from __future__ import annotations

from kedge.cluster.scheduler.waiting import FLUSH_AFTER, LONGEST_BACKOFF, Waiting
from tests.fakes import objects


def test_the_higher_priority_goes_first_then_the_older():
    waiting = Waiting()
    for name, day, priority in (("young", 2, 0), ("old", 1, 0), ("vip", 3, 9)):
        waiting.add(
            objects.pod(name, created=f"2026-01-0{day}T00:00:00Z", spec={"priority": priority})
        )
    assert [waiting.pop().name for _ in range(3)] == ["vip", "old", "young"]
    assert waiting.pop() is None


def test_a_parked_pod_waits_for_an_event_and_its_backoff():
    waiting = Waiting()
    pod = objects.pod("p")
    waiting.park(pod, now=0.0)
    assert waiting.wake(1.0) == FLUSH_AFTER - 1
    assert waiting.pop() is None
    waiting.stir(1.0)
    assert waiting.pop() is pod
    waiting.park(pod, now=1.0)
    waiting.stir(1.1)
    assert waiting.pop() is None
    assert waiting.wake(1.1) is not None
    assert waiting.wake(1.3) == 0
    assert waiting.pop() is pod


def test_the_backoff_is_bounded_and_ends_with_the_pod():
    waiting = Waiting()
    pod = objects.pod("p")
    for _ in range(50):
        waiting.park(pod, now=0.0)
    waiting.stir(LONGEST_BACKOFF)
    assert waiting.pop() is pod
    waiting.forget(pod.key)
    waiting.park(pod, now=0.0)
    waiting.stir(0.2)
    assert waiting.pop() is pod


def test_a_parked_pod_is_tried_again_after_minutes_in_any_case():
    waiting = Waiting()
    waiting.park(objects.pod("p"), now=0.0)
    waiting.wake(FLUSH_AFTER)
    assert waiting.pop() is not None


def test_a_pod_that_is_forgotten_is_never_tried():
    waiting = Waiting()
    pod = objects.pod("p")
    waiting.add(pod)
    waiting.forget(pod.key)
    assert waiting.pop() is None
    assert len(waiting) == 0


def test_a_newer_version_replaces_the_waiting_one():
    waiting = Waiting()
    waiting.park(objects.pod("p"), now=0.0)
    newer = objects.pod("p")
    waiting.refresh(newer)
    assert waiting.pop() is None
    waiting.stir(5.0)
    assert waiting.pop() is newer
