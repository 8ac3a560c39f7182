# SPDX-License-Identifier: Apache-2.0
"""The records of this node's volumes, and which attached volumes are in use according to them.

A volume is in use from before it is asked for until after its driver has let go of it, over crashes too:
what the node's status says of it is what keeps it attached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.edge.kubelet.csi import state
from kedge.edge.kubelet.csi.requests import in_use_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kedge.edge.kubelet.csi.state import Layout, Record


class Records:
    """Writes and removes records.

    Args:
        layout: where they are.
        changed: told when ``in_use`` says something else.
    """

    def __init__(self, layout: Layout, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._attached = {one.directory: _name(one) for one in layout.all_attached()}

    def in_use(self) -> list[str]:
        """The attached volumes that this node has or is about to have, as its status names them."""
        return sorted(set(self._attached.values()))

    def has(self, record: Record) -> bool:
        """Whether the volume of a record counts as in use."""
        return record.directory in self._attached

    def write(self, record: Record) -> None:
        """Writes a record, durably."""
        state.write(record)
        if record.is_attached and record.directory not in self._attached:
            self._attached[record.directory] = _name(record)
            self._changed()

    def forget(self, directory: Path) -> None:
        """Removes a volume's directory; mounts must be gone."""
        state.forget(directory)
        if self._attached.pop(directory, None) is not None:
            self._changed()


def _name(record: Record) -> str:
    return in_use_name(record.driver, record.handle)
