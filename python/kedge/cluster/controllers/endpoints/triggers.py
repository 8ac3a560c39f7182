# SPDX-License-Identifier: Apache-2.0
"""When what a change of endpoints answers to happened, which is written on what is changed.

It is the earliest of the times that are new since the last look: pods that became ready or not, and
a Service that was made. From it others measure how long a change takes to reach them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.machinery.times import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import Key, Pod
    from kedge.cluster.machinery.services import Service


class Triggers:
    """What was last seen of each Service's pods."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[str, dict[str, float]]] = {}

    def look(self, service: Service, pods: Iterable[Pod]) -> str:
        """The time of what is new; empty if nothing is."""
        times = {pod.name: pod.ready_since for pod in pods if pod.ready_since}
        uid, before = self._seen.get(service.key, ("", {}))
        self._seen[service.key] = (service.uid, times)
        if uid != service.uid:
            return text_of(service.created)
        new = [time for name, time in times.items() if time > before.get(name, 0.0)]
        return text_of(min(new)) if new else ""

    def forget(self, key: Key) -> None:
        """Drops a Service that is gone."""
        self._seen.pop(key, None)
