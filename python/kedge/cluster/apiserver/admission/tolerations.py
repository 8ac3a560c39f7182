# SPDX-License-Identifier: Apache-2.0
"""DefaultTolerationSeconds: how long a pod stays on a node that is away; no controller here evicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.apiserver.admission.write import Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

Object = dict[str, Any]

SECONDS = 300
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds(Plugin):
    """The plugin."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod."""
        return is_core(kind, "pods") and not subresource

    async def admit(self, write: Write) -> None:
        """Adds tolerations of both taints."""
        tolerations = write.obj["spec"].setdefault("tolerations", [])
        for taint in _TAINTS:
            if not any(_tolerates(one, taint) for one in tolerations):
                tolerations.append(
                    {
                        "key": taint,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": SECONDS,
                    }
                )


def _tolerates(toleration: Object, taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in (
        "NoExecute",
        None,
        "",
    )
