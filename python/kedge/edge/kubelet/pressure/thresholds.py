# SPDX-License-Identifier: Apache-2.0
"""Eviction thresholds as the settings give them; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kedge.edge.kubelet.resources.resources import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNALS = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.available": "ephemeral-storage",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}
"""Every signal, with the resource that runs short; in the order in which they are relieved."""
CONDITIONS = {
    "memory.available": "MemoryPressure",
    "nodefs.available": "DiskPressure",
    "nodefs.inodesFree": "DiskPressure",
    "imagefs.available": "DiskPressure",
    "imagefs.inodesFree": "DiskPressure",
    "pid.available": "PIDPressure",
}


class Amount(NamedTuple):
    """So many units, or a share of the capacity."""

    text: str
    units: int = 0
    share: float = 0.0

    def of(self, capacity: int) -> int:
        """The units it means where so many are."""
        return int(capacity * self.share) if self.share else self.units


class Threshold(NamedTuple):
    """Met when less than ``least`` of a signal is left.

    Attributes:
        signal: one of ``SIGNALS``.
        least: what should be left.
        grace_seconds: how long it must be met before pods go; 0 for a hard one.
        reclaim: how much more than ``least`` must be free before it counts as relieved.
    """

    signal: str
    least: Amount
    grace_seconds: float = 0.0
    reclaim: Amount | None = None

    @property
    def is_hard(self) -> bool:
        """Whether pods go at once and without a grace of their own."""
        return self.grace_seconds == 0


def amount(text: str) -> Amount:
    """An amount written as a quantity or as a percentage.

    Raises:
        ValueError: it is neither.
    """
    is_share = text.endswith("%")
    try:
        value = float(text[:-1]) / 100 if is_share else whole(text)
    except ValueError:
        value = -1
    if value < 0 or (is_share and value >= 1):
        raise ValueError(f"got: {text!r}, wanted: a quantity such as 100Mi, or 0% to 99%")
    return Amount(text, share=value) if is_share else Amount(text, units=int(value))


def thresholds(
    hard: Mapping[str, str],
    soft: Mapping[str, str],
    grace_seconds: Mapping[str, int],
    reclaim: Mapping[str, str],
) -> tuple[Threshold, ...]:
    """Every threshold, hard ones first.

    Raises:
        ValueError: an unknown signal, an amount that cannot be read, a soft threshold without grace.
    """
    more = {
        signal: _named("evictionMinimumReclaim", signal, text) for signal, text in reclaim.items()
    }
    found = []
    for signal, text in hard.items():
        least = _named("evictionHard", signal, text)
        found.append(Threshold(signal, least, 0.0, more.get(signal)))
    for signal, text in soft.items():
        least = _named("evictionSoft", signal, text)
        if grace_seconds.get(signal, 0) <= 0:
            raise ValueError(
                f"evictionSoft: {signal}: wanted: seconds for it in evictionSoftGraceSeconds"
            )
        found.append(Threshold(signal, least, float(grace_seconds[signal]), more.get(signal)))
    for signal in grace_seconds:
        if signal not in soft:
            raise ValueError(f"evictionSoftGraceSeconds: {signal}: not in evictionSoft")
    return tuple(one for one in found if one.least.units or one.least.share)


def _named(setting: str, signal: str, text: str) -> Amount:
    if signal not in SIGNALS:
        wanted = ", ".join(SIGNALS)
        raise ValueError(f"{setting}: unknown signal, got: {signal!r}, wanted one of: {wanted}")
    try:
        return amount(text)
    except ValueError as error:
        raise ValueError(f"{setting}: {signal}: {error}") from None
