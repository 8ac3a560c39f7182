# SPDX-License-Identifier: Apache-2.0
"""Bootstrap tokens go when their time is over: Secrets of that type in ``kube-system`` that say when they expire."""

from __future__ import annotations

import base64
import binascii
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.store import Event

TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"
LONGEST_WAIT = 24 * 3600.0
"""A timer is set for no longer, and set again then."""


def remaining(secret: dict[str, Any], now: float) -> float | None:
    """The seconds that a token has left; 0 when it is over, None when it never is. Pure.

    A time that cannot be read is over.
    """
    text = (secret.get("data") or {}).get("expiration") or ""
    try:
        decoded = base64.b64decode(text, validate=True).decode()
        if not decoded:
            return None
        ends = datetime.fromisoformat(decoded)
    except (binascii.Error, ValueError):
        return 0.0
    return max(ends.timestamp() - now, 0.0) if ends.tzinfo is not None else 0.0


class BootstrapTokens:
    """Removes tokens that are over.

    Args:
        client: writes.
        informer: tells of Secrets; they are not held.
    """

    def __init__(self, client: Client, informer: Informer) -> None:
        self._client = client
        self._informer = informer
        self._work: Reconciler[str] = Reconciler(
            "bootstrap tokens", self._reconcile, informer, workers=1
        )
        informer.on_event(self._event)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._informer.synced()
        for row in self._informer.store.list("", "secrets", namespace=NAMESPACE).items:
            self._look(row.key, row.value)
        await self._work.run()

    def _event(self, event: Event) -> None:
        if event.type == "PUT":
            self._look(event.key, event.value)

    def _look(self, key: ObjectKey, value: bytes) -> None:
        if key.resource == "secrets" and key.namespace == NAMESPACE and TYPE.encode() in value:
            self._work.add(key.name)

    async def _reconcile(self, name: str) -> float | None:
        key = ObjectKey("", "secrets", NAMESPACE, name)
        secret = self._client.get(key)
        if secret is None or secret.get("type") != TYPE:
            return None
        left = remaining(secret, time.time())
        if left is not None and left <= 0:
            await self._client.delete(key, uid=secret["metadata"]["uid"])
        return None if not left else min(left, LONGEST_WAIT)
