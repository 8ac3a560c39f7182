# SPDX-License-Identifier: Apache-2.0
"""Which thresholds are met, for how long, and which conditions of the node follow; pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kedge.edge.kubelet.pressure.thresholds import CONDITIONS, SIGNALS, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Reading(NamedTuple):
    """What is left of a signal's resource, and how much there is."""

    available: int
    capacity: int


class Usage(NamedTuple):
    """What a pod uses of one resource.

    Attributes:
        total: of the whole pod.
        containers: by name, as far as it is known.
    """

    total: int = 0
    containers: Mapping[str, int] = MappingProxyType({})


class Memory(NamedTuple):
    """What one look leaves for the next.

    Attributes:
        met: since when each met threshold has been.
        conditions: when each condition was last found to hold.
    """

    met: Mapping[Threshold, float] = MappingProxyType({})
    conditions: Mapping[str, float] = MappingProxyType({})


class Verdict(NamedTuple):
    """What follows from one look.

    Attributes:
        memory: for the next one.
        conditions: those that hold, also for a while after they were last found to.
        due: the thresholds to be relieved now, the most pressing first.
    """

    memory: Memory
    conditions: frozenset[str]
    due: tuple[Threshold, ...]


def is_met(one: Threshold, reading: Reading, *, with_reclaim: bool = False) -> bool:
    """Whether less than the threshold is left; ``with_reclaim`` asks for its margin too."""
    least = one.least.of(reading.capacity)
    if with_reclaim and one.reclaim is not None:
        least += one.reclaim.of(reading.capacity)
    return reading.available < least


def decide(
    thresholds: Iterable[Threshold],
    readings: Mapping[str, Reading],
    memory: Memory,
    now: float,
    transition_seconds: float,
) -> Verdict:
    """One look.

    A threshold that was met stays so until its minimum reclaim is free too; a condition stays for
    ``transition_seconds`` after it was last found, so that it does not flap.

    Args:
        thresholds: from the settings.
        readings: by signal; one that could not be read is absent and decides nothing.
        memory: of the look before.
        now: seconds since the epoch.
        transition_seconds: how long a condition outlives what caused it.
    """
    met: dict[Threshold, float] = {}
    for one in thresholds:
        reading = readings.get(one.signal)
        since = memory.met.get(one)
        if reading is not None and is_met(one, reading, with_reclaim=since is not None):
            met[one] = now if since is None else since
    seen = dict(memory.conditions) | {CONDITIONS[one.signal]: now for one in met}
    kept = {kind: at for kind, at in seen.items() if now < at + transition_seconds or at == now}
    order = list(SIGNALS)
    due = [one for one, since in met.items() if now >= since + one.grace_seconds]
    due.sort(key=lambda one: (not one.is_hard, order.index(one.signal)))
    return Verdict(Memory(met, kept), frozenset(kept), tuple(due))
