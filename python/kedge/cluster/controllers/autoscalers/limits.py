# SPDX-License-Identifier: Apache-2.0
"""How far and how fast an autoscaler may go. Pure, but for what it remembers.

Between what metrics ask for and what is done are: the highest (or lowest) of what was asked for lately, the policies of
``behavior``, and the least and most replicas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Told = tuple[str, str]
"""A reason and a message."""

DOWN_SECONDS = 300
"""How long back a smaller number has to be asked for."""
KEPT_SECONDS = 3600.0
"""Nothing older is ever looked at."""
MOST = (1 << 31) - 1
WITHIN: Told = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_MANY: Told = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
)
TOO_FEW: Told = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
)
TOO_FAST_UP: Told = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
)
TOO_FAST_DOWN: Told = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)
READY: Told = ("ReadyForNewScale", "recommended size matches current size")
STABLE_DOWN: Told = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
STABLE_UP: Told = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)


@dataclass(slots=True)
class History:
    """What was asked for and done lately, oldest first: numbers and when."""

    asked: list[tuple[int, float]] = field(default_factory=list)
    added: list[tuple[int, float]] = field(default_factory=list)
    removed: list[tuple[int, float]] = field(default_factory=list)

    def scaled(self, before: int, after: int, now: float) -> None:
        """Notes a change."""
        if after > before:
            self.added.append((after - before, now))
        else:
            self.removed.append((before - after, now))

    def forget(self, now: float) -> None:
        """Drops what is too old to matter."""
        for part in (self.asked, self.added, self.removed):
            part[:] = [one for one in part if one[1] > now - KEPT_SECONDS]


@dataclass(frozen=True, slots=True)
class Limited:
    """What is to be done, and what was in the way.

    Attributes:
        replicas: how many there are to be.
        stabilized: about what was asked for lately.
        range: about policies, the least and the most.
        is_limited: whether those changed the number.
    """

    replicas: int
    stabilized: Told
    range: Told
    is_limited: bool


def limit(spec: Object, history: History, current: int, wanted: int, now: float) -> Limited:
    """How many replicas there are to be.

    Args:
        spec: the autoscaler's.
        history: what was asked for and done; gets what is asked for now.
        current: how many are asked for.
        wanted: how many the metrics ask for.
        now: epoch seconds.
    """
    history.forget(now)
    behavior = spec.get("behavior")
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    if behavior is None:
        stable = max([wanted, *(n for n, at in history.asked if at >= now - DOWN_SECONDS)])
        told = STABLE_DOWN
    else:
        stable = _stable(behavior, history, current, wanted, now)
        told = STABLE_UP if wanted >= current else STABLE_DOWN
    history.asked.append((wanted, now))
    if behavior is None:
        replicas, why = _in_range(current, stable, least, most)
    else:
        replicas, why = _by_policies(behavior, history, (current, stable, least, most), now)
    return Limited(replicas, READY if stable == wanted else told, why, replicas != stable)


def _stable(behavior: Object, history: History, current: int, wanted: int, now: float) -> int:
    """The number nearest to the current one of what was asked for within the windows."""
    up = behavior["scaleUp"].get("stabilizationWindowSeconds", 0)
    down = behavior["scaleDown"].get("stabilizationWindowSeconds", DOWN_SECONDS)
    lowest = min([wanted, *(n for n, at in history.asked if at > now - up)])
    highest = max([wanted, *(n for n, at in history.asked if at > now - down)])
    return min(max(current, lowest), highest)


def _in_range(current: int, wanted: int, least: int, most: int) -> tuple[int, Told]:
    """Without policies: at most twice as many, or four."""
    fastest = max(2 * current, 4)
    highest, why = (fastest, TOO_FAST_UP) if most > fastest else (most, TOO_MANY)
    if wanted < least:
        return least, TOO_FEW
    return (highest, why) if wanted > highest else (wanted, WITHIN)


def _by_policies(
    behavior: Object, history: History, numbers: tuple[int, int, int, int], now: float
) -> tuple[int, Told]:
    current, wanted, least, most = numbers
    if wanted > current:
        fastest = max(up_limit(behavior["scaleUp"], history, current, now), current)
        highest, why = (fastest, TOO_FAST_UP) if most > fastest else (most, TOO_MANY)
        if wanted > highest:
            return highest, why
    elif wanted < current:
        fastest = min(down_limit(behavior["scaleDown"], history, current, now), current)
        lowest, why = (fastest, TOO_FAST_DOWN) if least < fastest else (least, TOO_FEW)
        if wanted < lowest:
            return lowest, why
    return wanted, WITHIN


def up_limit(rules: Object, history: History, current: int, now: float) -> int:
    """How many replicas there may be at most by the policies."""
    if rules.get("selectPolicy") == "Disabled":
        return current
    found = []
    for policy in rules["policies"]:
        start = _at_start(history, current, policy["periodSeconds"], now)
        if policy["type"] == "Pods":
            found.append(start + policy["value"])
        else:
            found.append(math.ceil(start * (1 + policy["value"] / 100)))
    chosen = min(found) if rules.get("selectPolicy") == "Min" else max(found)
    return int(min(chosen, MOST))


def down_limit(rules: Object, history: History, current: int, now: float) -> int:
    """How many replicas there have to be at least by the policies."""
    if rules.get("selectPolicy") == "Disabled":
        return current
    found = []
    for policy in rules["policies"]:
        start = _at_start(history, current, policy["periodSeconds"], now)
        if policy["type"] == "Pods":
            found.append(start - policy["value"])
        else:
            found.append(int(start * (1 - policy["value"] / 100)))
    return int(max(found) if rules.get("selectPolicy") == "Min" else min(found))


def _at_start(history: History, current: int, seconds: int, now: float) -> int:
    """How many replicas there were when a period began."""
    since = now - seconds
    added = sum(n for n, at in history.added if at > since)
    removed = sum(n for n, at in history.removed if at > since)
    return current - added + removed
