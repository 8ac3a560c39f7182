# SPDX-License-Identifier: Apache-2.0
"""A write as admission sees it, and what a plugin of the chain is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from kedge.cluster.apiserver import failures

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.bodies import WriteOptions
    from kedge.errors import Forbidden
    from kedge.store import Store

Object = dict[str, Any]

CREATE, UPDATE, DELETE = "CREATE", "UPDATE", "DELETE"


@dataclass(slots=True)
class Rounds:
    """Which webhooks a write has met: some want to see what others made of it, in a second round.

    Attributes:
        changed: whether one of them changed the object.
        again: whether this is the second round.
        met: those that were asked and want to see changes.
        due: those of them that are to be asked again.
        left: the object as the last one left it.
    """

    changed: bool = False
    again: bool = False
    met: set[tuple[str, str]] = field(default_factory=set)
    due: set[tuple[str, str]] = field(default_factory=set)
    left: bytes = b""


@dataclass(slots=True)
class Write:
    """One write, before it is stored.

    Attributes:
        operation: ``CREATE``, ``UPDATE`` or ``DELETE``.
        kind: the object's kind.
        key: the object's key.
        obj: as it is to be; empty for a delete.
        old: as it is; empty for a create.
        options: who writes, and how.
        subresource: through which, if any.
        rounds: of webhooks, once one was asked.
    """

    operation: str
    kind: Kind
    key: ObjectKey
    obj: Object
    old: Object
    options: WriteOptions
    subresource: str = ""
    rounds: Rounds | None = None

    def forbidden(self, why: str) -> Forbidden:
        """The refusal of this write."""
        return failures.forbidden(self.kind, self.key.name, why)

    def warn(self, text: str) -> None:
        """Tells a client; what kedge writes itself has nobody to tell."""
        if self.options.user is not None and text not in self.options.warnings:
            self.options.warnings.append(text)


class Plugin:
    """A step of the chain; a subclass has ``admit``, ``validate`` or both.

    Args:
        store: what decisions read.
    """

    operations: ClassVar[tuple[str, ...]] = (CREATE,)

    def __init__(self, store: Store) -> None:
        self.store = store

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether writes of a kind are looked at; asked once for each."""
        raise NotImplementedError

    async def admit(self, write: Write) -> None:
        """Completes the object, before it is validated."""

    async def validate(self, write: Write) -> None:
        """Refuses a valid object, or lets it pass unchanged."""

    def watches(self, write: Write) -> bool:
        """Whether a change of a status, made by many and often, is to be shown as well."""
        del write
        return False

    def written(self, key: ObjectKey) -> None:
        """Takes note that an object was written or removed, for those that remember."""


def is_core(kind: Kind, resource: str) -> bool:
    """Whether a kind is this one of the core group."""
    return kind.resource == resource and not kind.group
