# SPDX-License-Identifier: Apache-2.0
"""Certificates and tokens, through the face; the Rust side has its own tests of the details."""

from __future__ import annotations

import time

import pytest

from kedge.errors import CertificateError, Invalid
from kedge.hub import certificates


@pytest.fixture(scope="module")
def authority() -> certificates.Pair:
    return certificates.create_ca("kedge-ca", days=9)


def test_a_node_certificate_has_the_name_the_cloud_gave_it(authority):
    request = certificates.make_csr("someone else")
    signed = certificates.sign_csr(
        authority,
        request.certificate,
        common_name="system:node:a",
        organizations=["system:nodes"],
        days=1,
    )
    details = certificates.inspect(signed)
    assert (details.common_name, details.organizations) == ("system:node:a", ("system:nodes",))
    assert certificates.same_key(signed, request.key)
    certificates.check(signed, authority.certificate)


def test_half_of_a_life_lies_in_its_middle(authority):
    pair = certificates.issue(authority, common_name="hub", days=2, server=True)
    details = certificates.inspect(pair.certificate)
    assert details.not_before < details.renew_at() < details.not_after
    assert details.renew_at() - details.not_before == details.not_after - details.renew_at()


@pytest.mark.parametrize(
    ("moment", "says"),
    [(lambda now: now + 3 * 86400, "expired"), (lambda now: now - 3600, "not yet valid")],
)
def test_a_wrong_clock_is_named(authority, moment, says):
    pair = certificates.issue(authority, common_name="a", days=2, client=True)
    with pytest.raises(CertificateError, match=says):
        certificates.check(pair.certificate, authority.certificate, now=moment(time.time()))


def test_a_token_is_for_its_audience_alone():
    key = certificates.new_key()
    token = certificates.jwt_sign(key, {"aud": ["a"], "exp": 100})
    public = certificates.public_key(key)
    assert certificates.jwt_verify([public], token, audiences=["a"], now=1)["aud"] == ["a"]
    with pytest.raises(CertificateError, match="another audience"):
        certificates.jwt_verify([public], token, audiences=["b"], now=1)


def test_a_key_never_shows_in_a_representation(authority):
    assert "PRIVATE" not in repr(authority)


def test_a_wish_out_of_range_is_refused(authority):
    with pytest.raises(Invalid, match="IP address: wanted an IPv4 or IPv6 address, got: x"):
        certificates.issue(authority, common_name="a", ip_addresses=["x"], days=1)
