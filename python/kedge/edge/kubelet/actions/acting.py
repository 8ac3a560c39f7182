# SPDX-License-Identifier: Apache-2.0
"""What all actions have: the worker, how they tell of a failure, and what is remembered of the pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kedge.edge.kubelet.admission import unhonoured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.pod.state import BackOff, Failure
    from kedge.edge.kubelet.worker import PodWorker

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 300.0
KILL_RETRY_SECONDS = 2.0
CONFIGURATION_REASONS = frozenset(
    {"FailedAttachVolume", "FailedMount", "CreateContainerConfigError", "FailedCreatePodSandBox"}
)
"""Failures that a change of a ConfigMap, Secret, token or runtime class may end."""


@dataclass(slots=True)
class Memory:
    """What only the agent knows of a pod; lost, and safely so, when the agent restarts."""

    failures: dict[str, Failure] = field(default_factory=dict)
    back_offs: dict[str, BackOff] = field(default_factory=dict)
    kills: dict[str, float] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    hooked: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    ending_since: float = 0.0

    def forget_failures(self, reasons: Iterable[str]) -> None:
        """Lets what failed for one of these reasons be tried at once."""
        for key in [key for key, one in self.failures.items() if one.reason in reasons]:
            del self.failures[key]

    def delay(self, key: str, first: float) -> float:
        """How long to wait after one more failure of ``key``: doubling from ``first``."""
        earlier = self.failures.get(key)
        if earlier is None or not earlier.delay_seconds:
            return first
        return min(2 * earlier.delay_seconds, MAX_DELAY_SECONDS)


class Acting:
    """Carries out actions for one worker.

    Args:
        worker: whose pod it is.
    """

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._tools = worker.tools

    def _event(
        self, reason: str, message: str, *, container: str = "", warning: bool = True
    ) -> None:
        self._tools.recorder.pod(
            self._worker.pod, reason, message, container=container, warning=warning
        )

    def _retry(self, key: str, reason: str, message: str) -> None:
        self._event(reason, message)
        self._worker.fail(key, reason, message, KILL_RETRY_SECONDS)

    def say_unhonoured(self) -> None:
        """Says once what the pod asks for and does not get on this node."""
        found = unhonoured.unhonoured(self._worker.pod)
        if self._tools.facts.abilities.selinux is False:
            found += unhonoured.unlabelled(self._worker.pod)
        for text in found:
            self._say_unhonoured(text)

    def _say_unhonoured(self, text: str) -> None:
        said = self._worker.memory.said
        if text not in said:
            said.add(text)
            self._event("NotHonoured", text)
