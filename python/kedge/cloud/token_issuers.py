# SPDX-License-Identifier: Apache-2.0
"""Who issues the cluster's ServiceAccount tokens, told to every node so that it can check them offline.

The API says it at its OpenID endpoints; what changed there goes into the mirror as one small object
of kedge's own group, and from there into the view of every node. A key that is about to sign is
published before it does, so that asking now and then is enough.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from kedge.aio import wait_at_most
from kedge.api.keys import ObjectKey
from kedge.errors import KedgeError
from kedge.store import put

if TYPE_CHECKING:
    from kedge.kube import KubeClient
    from kedge.store import Store

log = logging.getLogger(__name__)

KEY = ObjectKey("kedge.io", "tokenissuers", "", "cluster")
CONFIGURATION = "/.well-known/openid-configuration"
KEYS = "/openid/v1/jwks"
EVERY_SECONDS = 60.0
RETRY_SECONDS = 2.0
PATIENCE_SECONDS = 3.0
MAX_BYTES = 64 * 1024


class TokenIssuers:
    """Keeps the object in the mirror equal to what the API says.

    Args:
        client: the API.
        mirror: where the object goes.
    """

    def __init__(self, client: KubeClient, mirror: Store) -> None:
        self._client = client
        self._mirror = mirror
        self._known = asyncio.Event()
        if mirror.get(KEY) is not None:
            self._known.set()

    async def known(self) -> None:
        """Waits until the mirror says who issues tokens, but not for long."""
        await wait_at_most(self._known, PATIENCE_SECONDS)

    async def run(self) -> None:
        """Asks until cancelled."""
        said = ""
        while True:
            try:
                await self.look()
            except KedgeError as error:
                if said != str(error):
                    said = str(error)
                    log.warning("nodes do not learn who issues tokens: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                said = ""
                await asyncio.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Asks once.

        Raises:
            KedgeError: the API does not say it, or the mirror does not take it.
        """
        configuration = await self._client.request("GET", CONFIGURATION)
        keys = await self._client.request("GET", KEYS)
        value = json.dumps(to_object(configuration, keys), separators=(",", ":")).encode()
        held = self._mirror.get(KEY)
        if held is None or held.value != value:
            await self._mirror.commit([put(KEY, value)])
            self._known.set()
            log.info("token issuer issuer=%s keys=%d", configuration["issuer"], len(keys["keys"]))


def to_object(configuration: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """What nodes are told.

    Args:
        configuration: the OpenID configuration.
        keys: the JSON Web Key Set.

    Raises:
        KedgeError: an answer is not what it should be.
    """
    issuer, found = configuration.get("issuer"), keys.get("keys")
    if not isinstance(issuer, str) or not issuer or not isinstance(found, list):
        raise KedgeError(f"{CONFIGURATION}: wanted an issuer, and {KEYS} a list of keys")
    jwks = json.dumps({"keys": found}, separators=(",", ":"))
    if len(jwks) > MAX_BYTES:
        raise KedgeError(f"{KEYS}: larger than {MAX_BYTES} bytes: {len(jwks)}")
    return {
        "apiVersion": "kedge.io/v1",
        "kind": "TokenIssuer",
        "metadata": {"name": KEY.name},
        "spec": {"issuer": issuer, "audiences": [issuer], "jwks": jwks},
    }
