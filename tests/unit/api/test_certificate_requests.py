# SPDX-License-Identifier: Apache-2.0
"""Reading certificate requests that anybody may have made."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api import certificate_requests
from kedge.hub import certificates
from tests.fakes import requests

DER = next(certificate_requests.blocks(requests.WITH_NAMES.encode())).content


def pem(der: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    body = base64.b64encode(der).decode()
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def test_subject_key_and_every_alternative_name_are_read():
    found = certificate_requests.read(requests.WITH_NAMES.encode())
    assert (found.common_name, found.organizations) == ("system:node:edge-1", ("system:nodes",))
    assert found.dns_names == ("edge-1", "edge-1.example.com")
    assert found.addresses == ("10.0.0.7", "fd00::7")
    assert (found.emails, found.uris) == (("a@example.com",), ("spiffe://x/y",))
    assert found.key == "ECDSA"


def test_a_request_of_the_extension_is_read_too():
    made = certificates.make_csr("jane", ["dev"]).certificate.encode()
    found = certificate_requests.read(b"some text before\n" + made)
    assert found == certificate_requests.CertificateRequest("jane", ("dev",), key="ECDSA")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "PEM block type must be CERTIFICATE REQUEST"),
        (pem(DER, "CERTIFICATE"), "PEM block type must be CERTIFICATE REQUEST"),
        (pem(DER)[:-20], "PEM block type must be CERTIFICATE REQUEST"),
        (pem(b"\x30\x84\xff\xff\xff\xff"), "x509: malformed certificate request"),
        (pem(DER[:-1]), "x509: malformed certificate request"),
        (b"-----BEGIN " * 10_000, "may not be larger than 65536 bytes"),
    ],
)
def test_what_is_no_request_is_refused(text: bytes, says: str):
    with pytest.raises(ValueError, match=says):
        certificate_requests.read(text)


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused_and_nothing_else(position: int, value: int):
    changed = bytearray(DER)
    changed[position] = value
    try:
        found = certificate_requests.read(pem(bytes(changed)))
    except ValueError:
        return
    assert isinstance(found.common_name, str)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes):
    with pytest.raises(ValueError, match="x509: malformed"):
        certificate_requests.read(pem(b"\x01" + noise))


def test_a_signer_gives_certificates_and_nothing_else():
    certificate = certificates.create_ca("a", days=1).certificate.encode()
    certificate_requests.check_certificates(certificate + certificate)
    key = certificates.new_key().encode()
    headers = certificate.replace(b"-----\n", b"-----\nProc-Type: 4\n", 1)
    for text, says in (
        (b"x", "must contain at least one CERTIFICATE PEM block"),
        (certificate + key, 'only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY"'),
        (headers, "no PEM block headers are permitted"),
        (pem(b"\x30\x00", "CERTIFICATE"), "x509: malformed certificate"),
    ):
        with pytest.raises(ValueError, match=says):
            certificate_requests.check_certificates(text)
