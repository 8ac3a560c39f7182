# SPDX-License-Identifier: Apache-2.0
"""TaintNodesByCondition: a new node gets no pods before its controller has seen that it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.apiserver.admission.write import Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

TAINT = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition(Plugin):
    """The plugin."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a node."""
        return is_core(kind, "nodes") and not subresource

    async def admit(self, write: Write) -> None:
        """Adds the taint."""
        taints = write.obj.setdefault("spec", {}).setdefault("taints", [])
        if not any({**one, **TAINT} == one for one in taints):
            taints.append(dict(TAINT))
