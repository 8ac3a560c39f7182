# SPDX-License-Identifier: Apache-2.0
"""``certificate/renew`` over the link: a connected node gets a certificate for its next key.

The session's own certificate is the proof of who asks. A new key takes the pin of the name along,
in the same compare-and-swap way as joining; the hub is told before, so that the link goes on. A node
whose Node was deleted, or whose name another key holds, gets nothing.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from kedge.cloud import names
from kedge.cloud.pinning import pin
from kedge.errors import Invalid
from kedge.hub import certificates

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.cloud.authority import Authority
    from kedge.cloud.config import CloudConfig
    from kedge.cloud.sessions import Session
    from kedge.kube import KubeClient

log = logging.getLogger(__name__)

METHOD = "certificate/renew"
MAX_BODY_BYTES = 16 * 1024


class RenewBody(msgspec.Struct):
    """What a node sends."""

    csr: str


class Renewal:
    """Signs the next certificate of a connected node.

    Args:
        client: the API.
        authority: what signs.
        config: life times.
        allow_key: tells the hub which key a session's Node is about to be pinned to.
    """

    def __init__(
        self,
        client: KubeClient,
        authority: Authority,
        config: CloudConfig,
        allow_key: Callable[[int, str], None],
    ) -> None:
        self._allow_key = allow_key
        self._client = client
        self._authority = authority
        self._config = config

    async def renew(self, session: Session, body: bytes) -> bytes:
        """The answer to a node's request.

        Args:
            session: the one that it came by.
            body: ``{"csr": PEM}``.

        Raises:
            Invalid: the body cannot be read.
            CertificateError: the request's signature does not hold.
            Rejected: the Node was deleted, or the name belongs to another key now.
        """
        if len(body) > MAX_BODY_BYTES:
            raise Invalid(f"{METHOD}: larger than {MAX_BODY_BYTES} bytes: {len(body)}")
        try:
            request = msgspec.json.decode(body, type=RenewBody)
        except msgspec.DecodeError as error:
            raise Invalid(f"{METHOD}: wanted a JSON object with csr: {error}") from error
        wanted = certificates.csr_key_hash(request.csr)

        node = session.node

        def decide(current: dict[str, Any] | None) -> bool:
            return names.may_renew(node, session.uid, session.key_hash, wanted, current)

        self._allow_key(session.id, wanted)
        holder = await pin(self._client, node, wanted, decide)
        certificate = certificates.sign_csr(
            self._authority.ca,
            request.csr,
            common_name=names.user_of(node),
            organizations=[names.ORGANIZATION],
            uris=[names.uri_of(holder)],
            days=self._config.node_certificate_days,
        )
        serial = certificates.inspect(certificate).serial
        log.info("node certificate renewed node=%s key=%s serial=%s", node, wanted, serial)
        return json.dumps({"certificate": certificate}).encode()
