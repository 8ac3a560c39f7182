# SPDX-License-Identifier: Apache-2.0
"""Joining, request by request, against an API in memory."""

from __future__ import annotations

import json
import time

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud import authority, names
from kedge.cloud.config import CloudConfig
from kedge.cloud.joining import Joining
from kedge.cloud.renewal import Renewal
from kedge.cloud.sessions import Session
from kedge.errors import CertificateError, Conflict, Disconnected, Invalid, Rejected
from kedge.hub import certificates, tokens
from tests.fakes.kubernetes import FakeApi

NODE = ObjectKey("", "nodes", "", "a")


class Rig:
    def __init__(self, api, trusted):
        self.api, self.trusted = api, trusted
        self.joining = Joining(api, trusted, CloudConfig(join_per_minute=5))
        self.request = certificates.make_csr("x")

    def uid(self):
        return self.api.objects[NODE]["metadata"]["uid"]

    def renewal(self):
        self.allowed = []
        allow = lambda session, key: self.allowed.append((session, key))  # noqa: E731
        return Renewal(self.api, self.trusted, CloudConfig(), allow)

    async def token(self, *, ttl=60, now=None, **allowed):
        now = time.time() if now is None else now
        grant = tokens.new_grant(now, ttl, **allowed)
        key = ObjectKey("", "secrets", tokens.NAMESPACE, grant.secret_name)
        await self.api.create(key, tokens.to_secret(grant, now))
        text = tokens.encode(grant, self.trusted.ca.certificate, self.trusted.token_key, now)
        return text, key

    async def join(self, token, *, node="a", csr=None, peer="10.0.0.1:5"):
        body = {"token": token, "csr": csr or self.request.certificate, "node": node}
        answer = await self.joining.answer(json.dumps(body).encode(), peer)
        return answer.status, json.loads(answer.body)


@pytest.fixture
async def rig():
    api = FakeApi()
    return Rig(api, await authority.load(api))


async def test_a_token_gives_a_certificate_for_one_name_and_pins_it(rig, caplog):
    caplog.set_level("INFO")
    token, _ = await rig.token()
    status, granted = await rig.join(token)
    assert status == 200
    details = certificates.inspect(granted["certificate"])
    assert details.common_name == "system:node:a"
    assert details.organizations == ("system:nodes",)
    assert details.sans == (f"URI:urn:uuid:{rig.uid()}",)
    assert certificates.same_key(granted["certificate"], rig.request.key)
    certificates.check(granted["certificate"], granted["ca"])
    key_hash = certificates.csr_key_hash(rig.request.certificate)
    assert names.pin_of(rig.api.objects[NODE]) == key_hash
    audit = [line for line in caplog.messages if line.startswith("node joined")]
    assert len(audit) == 1
    assert key_hash in audit[0]
    assert token not in caplog.text


async def test_the_same_key_joins_again_and_another_key_does_not(rig):
    token, _ = await rig.token()
    assert (await rig.join(token))[0] == 200
    assert (await rig.join(token))[0] == 200
    other = certificates.make_csr("x").certificate
    status, refusal = await rig.join(token, csr=other)
    assert (status, refusal["reason"]) == (403, "NameRefused")
    assert "the name belongs to a node with another key" in refusal["message"]
    assert "--rejoin" in refusal["hint"]
    rejoin, _ = await rig.token(rejoin=True)
    assert (await rig.join(rejoin, csr=other))[0] == 200


async def test_a_deleted_secret_revokes_a_token_at_once(rig):
    token, key = await rig.token()
    del rig.api.objects[key]
    status, refusal = await rig.join(token)
    assert (status, refusal["reason"]) == (401, "TokenRevoked")


async def test_tokens_that_do_not_hold_are_told_apart(rig):
    expired, _ = await rig.token(now=time.time() - 100, ttl=50)
    foreign_authority = await authority.load(FakeApi())
    grant = tokens.new_grant(time.time(), 60)
    foreign = tokens.encode(
        grant, foreign_authority.ca.certificate, foreign_authority.token_key, time.time()
    )
    forged = tokens.encode(grant, rig.trusted.ca.certificate, certificates.new_key(), time.time())
    for text, reason in (
        (expired, "TokenExpired"),
        (foreign, "TokenForeign"),
        (forged, "TokenForeign"),
        ("nonsense", "TokenInvalid"),
    ):
        status, refusal = await rig.join(text)
        assert (status, refusal["reason"]) == (401, reason)
        assert refusal["message"]
        assert refusal["hint"]
    assert NODE not in rig.api.objects


async def test_a_token_for_one_node_is_for_no_other(rig):
    token, _ = await rig.token(node="b")
    status, refusal = await rig.join(token)
    assert (status, refusal["reason"]) == (403, "NameRefused")
    assert "for node b alone" in refusal["message"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "BadRequest"),
        (b'{"token": "t"}', 400, "BadRequest"),
        (b'{"token": 5, "csr": "c", "node": "a"}', 400, "BadRequest"),
        (b'{"token": "t", "csr": "c", "node": "A_b"}', 400, "NameInvalid"),
        (b'{"token": "t", "csr": "c", "node": "a"}', 400, "RequestInvalid"),
        (b" " * 40_000, 413, "TooLarge"),
    ],
)
async def test_what_a_stranger_sends_is_refused_with_a_reason(rig, body, status, reason):
    calls = len(rig.api.calls)
    answer = await rig.joining.answer(body, "10.0.0.1:5")
    assert (answer.status, json.loads(answer.body)["reason"]) == (status, reason)
    assert len(rig.api.calls) == calls


async def test_an_address_that_asks_too_often_waits(rig):
    for _ in range(5):
        await rig.joining.answer(b"{", "10.0.0.1:5")
    assert (await rig.joining.answer(b"{", "10.0.0.1:6")).status == 429
    assert (await rig.joining.answer(b"{", "10.0.0.2:5")).status == 400


async def test_an_api_that_is_away_is_no_verdict_on_the_token(rig):
    token, _ = await rig.token()
    rig.api.failures = [Disconnected("away")]
    status, refusal = await rig.join(token)
    assert (status, refusal["reason"]) == (503, "ApiAway")


async def test_of_two_replicas_one_gives_the_name_and_the_other_refuses(rig):
    token, _ = await rig.token()
    other = Rig(rig.api, await authority.load(rig.api))
    assert other.trusted == rig.trusted
    real = rig.api.get

    async def late(key, subresource=""):
        found = await real(key, subresource) if key != NODE else None
        if key == NODE:
            rig.api.get = real
            assert (await other.join(token))[0] == 200
            from kedge.errors import NotFound

            raise NotFound("not there a moment ago")
        return found

    rig.api.get = late
    status, refusal = await rig.join(token)
    assert (status, refusal["reason"]) == (403, "NameRefused")


async def test_a_node_renews_with_a_new_key_which_takes_the_name_along(rig):
    token, _ = await rig.token()
    await rig.join(token)
    first = certificates.csr_key_hash(rig.request.certificate)
    renewal = rig.renewal()
    session = Session(7, "a", key_hash=first, uid=rig.uid())
    request = certificates.make_csr("x")
    body = json.dumps({"csr": request.certificate}).encode()
    answer = json.loads(await renewal.renew(session, body))
    assert rig.allowed == [(7, certificates.csr_key_hash(request.certificate))]
    assert certificates.inspect(answer["certificate"]).sans == (f"URI:urn:uuid:{rig.uid()}",)
    assert certificates.same_key(answer["certificate"], request.key)
    assert names.pin_of(rig.api.objects[NODE]) == certificates.csr_key_hash(request.certificate)
    again = json.dumps({"csr": certificates.make_csr("x").certificate}).encode()
    with pytest.raises(Rejected, match="belongs to another key"):
        await renewal.renew(session, again)


async def test_a_deleted_node_gets_a_new_certificate_by_joining_and_not_by_renewing(rig):
    token, _ = await rig.token()
    _, granted = await rig.join(token)
    old = certificates.inspect(granted["certificate"]).sans
    key_hash = certificates.csr_key_hash(rig.request.certificate)
    session = Session(7, "a", key_hash=key_hash, uid=rig.uid())
    body = json.dumps({"csr": rig.request.certificate}).encode()
    del rig.api.objects[NODE]
    with pytest.raises(Rejected, match="deleted: join it again with a token"):
        await rig.renewal().renew(session, body)
    assert NODE not in rig.api.objects
    status, granted = await rig.join(token)
    assert status == 200
    assert certificates.inspect(granted["certificate"]).sans != old
    with pytest.raises(Rejected, match="deleted: join it again with a token"):
        await rig.renewal().renew(session, body)


@pytest.mark.parametrize(
    ("body", "error"),
    [(b"{}", Invalid), (b"x" * 20_000, Invalid), (b'{"csr": "x"}', CertificateError)],
)
async def test_a_renewal_that_cannot_be_read_is_refused(rig, body, error):
    with pytest.raises(error):
        await rig.renewal().renew(Session(7, "a"), body)


async def test_a_lost_race_for_a_pin_is_a_conflict_and_not_a_certificate(rig):
    token, _ = await rig.token()
    await rig.join(token)
    rig.api.failures = []
    real = rig.api.patch

    async def lost(key, patch, **more):
        raise Conflict("somebody was faster")

    rig.api.patch = lost
    other = certificates.make_csr("x").certificate
    rejoin, _ = await rig.token(rejoin=True)
    status, refusal = await rig.join(rejoin, csr=other)
    assert (status, refusal["reason"]) == (503, "Busy")
    rig.api.patch = real
