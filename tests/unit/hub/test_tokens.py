# SPDX-License-Identifier: Apache-2.0
"""Join tokens: what holds, what does not, and what the Secret says."""

from __future__ import annotations

import pytest

from kedge.errors import CertificateError, Invalid
from kedge.hub import certificates, tokens

NOW = 1_000_000.0


@pytest.fixture(scope="module")
def ca() -> certificates.Pair:
    return certificates.create_ca("kedge-ca", days=9)


@pytest.fixture(scope="module")
def key() -> str:
    return certificates.new_key()


def test_a_token_says_which_cloud_and_what_it_allows(ca, key):
    grant = tokens.new_grant(NOW, 60, node="a", rejoin=True)
    token = tokens.parse(f" {tokens.encode(grant, ca.certificate, key, NOW)}\n")
    assert token.ca_hash == certificates.ca_hash(ca.certificate)
    assert tokens.verify(token.jwt, certificates.public_key(key), NOW + 59) == grant


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "malformed"),
        (lambda text: text[1:], "malformed"),
        (lambda text: text.replace(".", "", 1), "malformed"),
        (lambda text: text.upper(), "malformed"),
        (lambda text: text + "a" * 5000, "longer than 4096 characters"),
        (lambda text: text[:-4], "not base64url|not signed by a key"),
        (lambda text: text[:-1] + ("A" if text[-1] != "A" else "g"), "not signed by a key"),
    ],
)
def test_a_damaged_token_is_refused(ca, key, change, says):
    text = tokens.encode(tokens.new_grant(NOW, 60), ca.certificate, key, NOW)
    with pytest.raises(CertificateError, match=says):
        tokens.verify(tokens.parse(change(text)).jwt, certificates.public_key(key), NOW)


def test_an_expired_token_is_refused(ca, key):
    text = tokens.encode(tokens.new_grant(NOW, 60), ca.certificate, key, NOW)
    with pytest.raises(CertificateError, match="expired 40 s ago"):
        tokens.verify(tokens.parse(text).jwt, certificates.public_key(key), NOW + 100)


def test_a_service_account_token_signed_by_the_same_key_is_no_join_token(key):
    jwt = certificates.jwt_sign(key, {"aud": ["kubernetes"], "exp": NOW + 9, "jti": "a"})
    with pytest.raises(CertificateError, match="another audience"):
        tokens.verify(jwt, certificates.public_key(key), NOW)


def test_a_secret_carries_the_grant_and_not_the_token(ca, key):
    grant = tokens.new_grant(NOW, 60, node="a")
    secret = tokens.to_secret(grant, NOW)
    assert tokens.from_secret(secret) == grant
    assert secret["metadata"]["name"] == f"join-token-{grant.id}"
    assert tokens.encode(grant, ca.certificate, key, NOW) not in str(secret)
    with pytest.raises(Invalid, match="not a join token"):
        tokens.from_secret({"metadata": {"name": "x"}, "data": {"id": "!"}})


@pytest.mark.parametrize("ttl", [0, -1, 1e12, float("nan")])
def test_a_time_to_live_out_of_range_is_refused(ttl):
    with pytest.raises(Invalid, match="token ttl"):
        tokens.new_grant(NOW, ttl)
