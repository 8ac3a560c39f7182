# SPDX-License-Identifier: Apache-2.0
"""Whether one volume is to be attached to one node, detached from it, or waited for. Pure.

A volume is detached only when its node no longer says that it is in use. A node that is out of reach cannot
say so: it is waited for some minutes, and not at all once somebody has marked it as out of service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import Node
    from kedge.cluster.machinery.storage import Attachment

FORCE_SECONDS = 360.0
"""How long a node that is out of reach is waited for, as Kubernetes does."""
IN_USE = "kubernetes.io/csi/"
"""How the names of CSI volumes begin in a Node's status."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_SHARED = frozenset({"ReadOnlyMany", "ReadWriteMany"})
_OURS = re.compile("csi-[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Attach:
    """Make the attachment."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Delete the attachment; forced when the node has not let go of the volume."""

    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Only one node may have the volume, and others have it."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in so many seconds; 0 for when something changes."""

    seconds: float = 0.0


Decision = Attach | Detach | Refuse | Wait


def name_of(driver: str, handle: str, node: str) -> str:
    """What an attachment is called: the node's side computes the same."""
    return f"csi-{sha256(f'{handle}{driver}{node}'.encode()).hexdigest()}"


def is_ours(name: str) -> bool:
    """Whether an attachment is called so; others are somebody else's."""
    return _OURS.fullmatch(name) is not None


def unique_name(driver: str, handle: str) -> str:
    """What a Node's status calls a volume."""
    return f"{IN_USE}{driver}^{handle}"


def held(node: Node) -> frozenset[str]:
    """The attachments whose volumes a node says to have in use."""
    names = [one.removeprefix(IN_USE) for one in node.volumes_in_use if one.startswith(IN_USE)]
    parts = [one.partition("^") for one in names]
    return frozenset(name_of(driver, handle, node.name) for driver, _, handle in parts)


def is_exclusive(modes: Iterable[str]) -> bool:
    """Whether only one node may have a volume of these access modes."""
    found = set(modes)
    return bool(found) and not found & _SHARED


def to_have(present: Attachment | None, others: Iterable[Attachment]) -> Decision:
    """What to do where a pod needs the volume.

    Args:
        present: the attachment to this node.
        others: those of the volume to other nodes, if only one may have it.
    """
    if present is not None:
        return Wait()  # one that is on its way out is made again when it has gone
    nodes = tuple(sorted({one.node for one in others}))
    return Refuse(nodes) if nodes else Attach()


def to_let_go(
    present: Attachment, node: Node | None, waited: float, force_seconds: float = FORCE_SECONDS
) -> Decision:
    """What to do with an attachment that no pod needs.

    Args:
        present: the attachment.
        node: where; None when it was removed, and with it what it had in use.
        waited: seconds for which nobody has needed it.
        force_seconds: how long a node out of reach is waited for.
    """
    if present.deleted:
        return Wait()
    if node is None or present.name not in held(node):
        return Detach()
    if any(one.key == OUT_OF_SERVICE for one in node.taints):
        return Detach(is_forced=True)
    if node.ready == "True":
        return Wait()  # the node will say when it has let go
    left = force_seconds - waited
    return Wait(left) if left > 0 else Detach(is_forced=True)
