# SPDX-License-Identifier: Apache-2.0
"""Tokens that the node signs for its pods while the cloud is away.

The cloud renews a token at 80 % of its life. One that is past 90 % has been left alone, so the node
signs another that says the same, names the node as its issuer and is accepted on this node only. It
lies beside the cloud's and goes when a fresh one has come. Tokens for other audiences than the
API server are left to run out: nobody else would accept the node's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from kedge.aio import run, wait_at_most
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.objects import NODE_TOKENS, TOKENS
from kedge.edge.kubelet.pod.lifecycle import format_time, parse_time
from kedge.errors import Gone, StoreError
from kedge.hub import certificates
from kedge.store import Op, Store, delete, put

if TYPE_CHECKING:
    from collections.abc import Callable

SIGN_AT = 0.9
"""The part of a token's life after which the node signs another."""
MIN_SECONDS = 600
DEFAULT_SECONDS = 3600
LONGEST_WAIT_SECONDS = 600.0
"""A clock may jump: it is looked at again this often."""
RETRY_SECONDS = 5.0

Object = dict[str, Any]

_log = logging.getLogger(__name__)


class TokenKeeper:
    """Keeps the pods of this node known to its MetaServer.

    Args:
        store: the node's replica.
        key: PEM of what tokens are signed with.
        issuer: whom they name.
        clock: seconds since 1970.
    """

    def __init__(
        self, store: Store, key: str, issuer: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Signs what is due until cancelled."""
        await run(self._follow(), self._keep())

    async def _follow(self) -> None:
        while True:
            watch = self._store.watch([TOKENS])
            self._changed.set()
            try:
                async for _ in watch:
                    self._changed.set()
            except Gone:
                _log.debug("the store's history is shorter than what happened meanwhile")
            finally:
                watch.close()

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            try:
                wait = await self.look() - self._clock()
            except StoreError as error:
                _log.error("tokens are not renewed, the store does not take them: %s", error)
                wait = RETRY_SECONDS
            await wait_at_most(self._changed, min(max(wait, 1.0), LONGEST_WAIT_SECONDS))

    async def look(self) -> float:
        """Signs what is due and removes what is not needed; when something is due next."""
        now, next_at = self._clock(), float("inf")
        own = {item.key: json.loads(item.value) for item in self._store.list(*NODE_TOKENS).items}
        operations: list[Op] = []
        for item in self._store.list(*TOKENS).items:
            token = json.loads(item.value)
            key = ObjectKey(*NODE_TOKENS, item.key.namespace, item.key.name)
            held = own.pop(key, None)
            due = due_at(token, held, now)
            if held is not None and not is_stale(token, now):
                operations.append(delete(key))
            if due <= now and (signed := self._sign(token, now)) is not None:
                operations.append(put(key, json.dumps(signed, separators=(",", ":")).encode()))
                due = due_at(token, signed, now)
            next_at = min(next_at, due if due > now else float("inf"))
        operations.extend(delete(key) for key in own)
        if operations:
            await self._store.commit(operations)
        return next_at

    def _sign(self, token: Object, now: float) -> Object | None:
        claims = claims_of(str(token["status"].get("token", "")))
        if claims is None:
            name = token.get("metadata", {}).get("name", "")
            _log.warning("token cannot be continued, it is not readable name=%s", name)
            return None
        expires = int(now) + life_of(token)
        claims |= {
            "iss": self._issuer,
            "aud": [self._issuer],
            "iat": int(now),
            "nbf": int(now),
            "exp": expires,
            "jti": os.urandom(16).hex(),
        }
        _log.info("token signed by this node name=%s", token["metadata"]["name"])
        return {
            "apiVersion": "kedge.io/v1",
            "kind": "NodeToken",
            "metadata": token["metadata"],
            "spec": token["spec"],
            "status": {
                "token": certificates.jwt_sign(self._key, claims),
                "expirationTimestamp": format_time(expires),
            },
        }


def life_of(token: Object) -> int:
    """How long a token lasts, in seconds."""
    seconds = (token.get("spec") or {}).get("expirationSeconds")
    return max(MIN_SECONDS, int(seconds or DEFAULT_SECONDS))


def stale_at(token: Object) -> float:
    """When a token has been left alone for too long."""
    expires = parse_time((token.get("status") or {}).get("expirationTimestamp"))
    return expires - (1 - SIGN_AT) * life_of(token)


def is_stale(token: Object, now: float) -> bool:
    """Whether the cloud should have renewed it by now."""
    return now >= stale_at(token)


def due_at(token: Object, own: Object | None, now: float) -> float:
    """When the node has to sign: now, later, or never."""
    if (token.get("spec") or {}).get("audience") or not (token.get("status") or {}).get("token"):
        return float("inf")
    if not is_stale(token, now):
        return stale_at(token)
    if own is None or own["spec"].get("podUID") != token["spec"].get("podUID"):
        return now
    return max(stale_at(own), now)


def claims_of(token: str) -> Object | None:
    """What a token says, unverified: it came from the cloud, over the link."""
    payload = token.split(".")[1:2]
    try:
        text = base64.urlsafe_b64decode(payload[0] + "=" * (-len(payload[0]) % 4))
        claims = json.loads(text)
    except (IndexError, ValueError):
        return None
    return claims if isinstance(claims, dict) else None
