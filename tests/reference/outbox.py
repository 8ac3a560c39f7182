# SPDX-License-Identifier: Apache-2.0
"""What replication in one direction promises, said slowly and plainly.

The model knows every version that an object ever had at its source and every version that was
applied at its destination. It never sends anything: it judges.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class ReferenceOutbox:
    """Versions offered and versions applied, by object; ``None`` is a version too: gone."""

    def __init__(self) -> None:
        self.offered: defaultdict[Hashable, list[bytes | None]] = defaultdict(list)
        self.applied: dict[Hashable, int] = {}

    def offer(self, key: Hashable, value: bytes | None) -> None:
        """The object has a new version."""
        self.offered[key].append(value)

    def apply(self, key: Hashable, value: bytes | None) -> None:
        """A version reached its destination; it must be one that was offered, and a newer one."""
        versions = self.offered[key]
        last = self.applied.get(key, -1)
        newer = [place for place in range(last + 1, len(versions)) if versions[place] == value]
        assert newer, f"{key}: {value!r} after {last} of {versions}"
        self.applied[key] = newer[-1] if value is None else newer[0]

    def newest(self) -> dict[Hashable, bytes]:
        """What the destination must hold in the end."""
        return {key: all_[-1] for key, all_ in self.offered.items() if all_[-1] is not None}
