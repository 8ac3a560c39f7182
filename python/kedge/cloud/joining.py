# SPDX-License-Identifier: Apache-2.0
"""``POST /v1/join``: a token and a certificate request against a certificate for one node name.

The order is cheap first: rate, size, shape, the token's signature and time, its Secret in the API
(a deleted one is revoked), then the name (``names.may_take``), which is pinned to the request's key
with a compare-and-swap before anything is signed. Every attempt leaves one audit line. A refusal is
a JSON object with ``reason`` (one word for programs), ``message`` and ``hint`` (for people).
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kedge import metrics
from kedge.api.keys import ObjectKey
from kedge.cloud import names
from kedge.cloud.pinning import pin
from kedge.cloud.rates import Rates
from kedge.errors import (
    ApiError,
    CertificateError,
    Conflict,
    DeadlineExceeded,
    HubError,
    Invalid,
    KedgeError,
    NotFound,
    Rejected,
)
from kedge.hub import certificates, tokens

if TYPE_CHECKING:
    from kedge.cloud.authority import Authority
    from kedge.cloud.config import CloudConfig
    from kedge.kube import KubeClient

log = logging.getLogger(__name__)

AWAY = (ApiError, HubError, DeadlineExceeded)
"""What the client raises when the API cannot do what is asked now."""
MAX_BODY_BYTES = 32 * 1024


class JoinBody(msgspec.Struct, forbid_unknown_fields=False):
    """What a node sends."""

    token: str
    csr: str
    node: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a JSON body."""

    status: int
    body: bytes


class Refusal(KedgeError):  # noqa: N818 - it is an answer
    """A join that is refused.

    Args:
        status: the HTTP status.
        reason: one word for programs.
        message: the cause, for people.
        hint: the fix, for people.
    """

    reason = "JoinRefused"

    def __init__(self, status: int, reason: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.cause = reason
        self.hint = hint

    def answer(self) -> Answer:
        """What the node is told."""
        body = {"reason": self.cause, "message": str(self), "hint": self.hint}
        return Answer(self.status, json.dumps(body).encode())


class Joining:
    """Answers join requests.

    Args:
        client: the API.
        authority: what signs.
        config: rates and life times.
    """

    def __init__(self, client: KubeClient, authority: Authority, config: CloudConfig) -> None:
        self._client = client
        self._authority = authority
        self._config = config
        self._public_key = authority.token_public_key
        self._rates = Rates(config.join_per_minute)

    async def answer(self, body: bytes, peer: str) -> Answer:
        """Decides one request; never raises for what a stranger can send.

        Args:
            body: the request's body.
            peer: the address it came from, ``host:port``.
        """
        try:
            answer = await self._join(body, peer)
        except Refusal as refusal:
            metrics.count("kedge_joins_total", result=refusal.cause)
            log.warning("join refused peer=%s reason=%s cause=%s", peer, refusal.cause, refusal)
            return refusal.answer()
        metrics.count("kedge_joins_total", result="Joined")
        return answer

    async def _join(self, body: bytes, peer: str) -> Answer:
        now = time.time()
        if not self._rates.allow(peer.rpartition(":")[0], now):
            raise Refusal(429, "TooManyRequests", "too many join attempts", "wait a minute")
        request = decode(body)
        name = _name(request.node)
        key_hash = _key_hash(request.csr)
        grant = await self._grant(request.token, now)
        holder = await self._take_name(name, key_hash, grant)
        certificate = certificates.sign_csr(
            self._authority.ca,
            request.csr,
            common_name=names.user_of(name),
            organizations=[names.ORGANIZATION],
            uris=[names.uri_of(holder)],
            days=self._config.node_certificate_days,
        )
        serial = certificates.inspect(certificate).serial
        log.info(
            "node joined node=%s peer=%s token=%s key=%s serial=%s",
            *(name, peer, grant.id, key_hash, serial),
        )
        granted = {
            "node": name,
            "certificate": certificate,
            "ca": self._authority.ca.certificate,
        }
        return Answer(200, json.dumps(granted).encode())

    async def _grant(self, text: str, now: float) -> tokens.Grant:
        try:
            token = tokens.parse(text)
            if token.ca_hash != certificates.ca_hash(self._authority.ca.certificate):
                raise Refusal(401, "TokenForeign", *FOREIGN)
            grant = tokens.verify(token.jwt, self._public_key, now)
        except CertificateError as error:
            raise refused_token(error) from error
        try:
            await self._client.get(ObjectKey("", "secrets", tokens.NAMESPACE, grant.secret_name))
        except NotFound as error:
            raise Refusal(401, "TokenRevoked", f"join token {grant.id} was revoked", NEW) from error
        except AWAY as error:
            raise _away(error) from error
        return grant

    async def _take_name(self, name: str, key_hash: str, grant: tokens.Grant) -> dict[str, Any]:
        def decide(node: dict[str, Any] | None) -> bool:
            return names.may_take(name, key_hash, grant, node)

        try:
            return await pin(self._client, name, key_hash, decide)
        except Rejected as error:
            raise Refusal(403, "NameRefused", str(error), REJOIN) from error
        except Conflict as error:
            raise Refusal(503, "Busy", str(error), "try again") from error
        except AWAY as error:
            raise _away(error) from error


NEW = "make a new one where the cluster runs: kedge token create"
REJOIN = (
    "choose another --node-name, or delete the Node, or join with a token made by: "
    "kedge token create --rejoin"
)
FOREIGN = ("the join token was made for another cloud", NEW)


def decode(body: bytes) -> JoinBody:
    """The fields of a request.

    Raises:
        Refusal: too large, not JSON, or a field is missing.
    """
    if len(body) > MAX_BODY_BYTES:
        what = f"the request is larger than {MAX_BODY_BYTES} bytes: {len(body)}"
        raise Refusal(413, "TooLarge", what, "send a token, a CSR and a node name")
    try:
        return msgspec.json.decode(body, type=JoinBody)
    except msgspec.DecodeError as error:
        what = f"the request cannot be read: {error}"
        raise Refusal(400, "BadRequest", what, "use a kedge of the same version") from error


def refused_token(error: CertificateError) -> Refusal:
    """Which kind of wrong a token is."""
    text = str(error)
    if "expired" in text:
        return Refusal(401, "TokenExpired", f"the join {text}", NEW)
    if "not signed" in text:
        return Refusal(401, "TokenForeign", *FOREIGN)
    return Refusal(401, "TokenInvalid", text, f"copy the whole token, or {NEW}")


def _name(name: str) -> str:
    try:
        return names.check_name(name)
    except Invalid as error:
        raise Refusal(400, "NameInvalid", str(error), "choose another --node-name") from error


def _key_hash(csr: str) -> str:
    try:
        return certificates.csr_key_hash(csr)
    except (CertificateError, ApiError) as error:
        raise Refusal(400, "RequestInvalid", str(error), "run kedge join again") from error


def _away(error: KedgeError) -> Refusal:
    return Refusal(503, "ApiAway", f"the Kubernetes API does not answer: {error}", "try again soon")
