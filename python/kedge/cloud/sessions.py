# SPDX-License-Identifier: Apache-2.0
"""Which nodes are connected to this replica, now.

Nothing here outlives the process: another replica knows only its own. A node that comes back before
its old connection was seen to die has two sessions for a moment; the newest counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Session:
    """One connected node.

    Attributes:
        id: the link's number for it.
        node: the name in its certificate.
        peer: where it comes from.
        key_hash: of its public key.
        uid: of the Node that its certificate is for.
    """

    id: int
    node: str
    peer: str = ""
    key_hash: str = ""
    uid: str = ""


class Sessions:
    """The sessions of this replica by node name."""

    def __init__(self) -> None:
        self._by_node: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_node)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_node.values()))

    def connected(self, session: Session) -> None:
        """Takes note of a new session; it replaces an older one of the same node."""
        self._by_node[session.node] = session

    def disconnected(self, node: str, session: int) -> bool:
        """Forgets a session; False when a newer one of that node goes on."""
        current = self._by_node.get(node)
        if current is None or current.id != session:
            return False
        del self._by_node[node]
        return True

    def get(self, node: str) -> Session | None:
        """The session of a node, if it is connected here."""
        return self._by_node.get(node)
