# SPDX-License-Identifier: Apache-2.0
"""What becomes of a CertificateSigningRequest."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kedge.api import certificate_requests
from kedge.cluster.controllers.certificates import rules
from kedge.cluster.controllers.certificates.plan import (
    Approve,
    Fail,
    Remove,
    Sign,
    Wait,
    decide,
)
from kedge.cluster.machinery.times import text_of
from kedge.hub import certificates
from tests.fakes import requests

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0


def csr(
    spec: dict[str, Any] | None = None, *conditions: str, age: float = 0, certificate: str = ""
):
    then = text_of(NOW - age)
    status: dict[str, Any] = {
        "conditions": [requests.condition(one, lastUpdateTime=then) for one in conditions]
    }
    if certificate:
        status["certificate"] = requests.encoded(certificate)
    return {
        "metadata": {"name": "x", "creationTimestamp": then},
        "spec": {"username": "jane", **(spec or requests.spec())},
        "status": status,
    }


def rights(*granted: str):
    return lambda right: right in granted


def issued() -> str:
    return certificates.create_ca("a", days=3650).certificate


@pytest.mark.parametrize(
    ("username", "granted", "approved"),
    [
        ("system:node:edge-1", ("selfnodeclient",), "self kubelet client certificate"),
        ("system:bootstrap:abc", ("nodeclient",), "approving kubelet client certificate"),
        ("system:bootstrap:abc", ("selfnodeclient",), ""),
        ("system:node:edge-1", (), ""),
    ],
)
def test_a_nodes_request_is_approved_by_its_rights(username, granted, approved):
    step = decide(csr({**requests.of_node(), "username": username}), rights(*granted), NOW)
    assert isinstance(step, Approve if approved else Wait)
    if isinstance(step, Approve):
        assert approved in step.message


@pytest.mark.parametrize(
    "spec",
    [
        requests.spec(),
        requests.of_node(signerName="kubernetes.io/kubelet-serving"),
        requests.of_node(usages=["client auth", "server auth"]),
        requests.spec(requests.WITH_NAMES, requests.KUBELET),
    ],
)
def test_nobody_elses_request_is_approved_by_itself(spec):
    assert isinstance(decide(csr(spec), rights("nodeclient"), NOW), Wait)


def test_what_is_decided_is_not_decided_again():
    step = decide(csr(requests.of_node(), "Denied"), rights("nodeclient"), NOW)
    assert isinstance(step, Wait)


@pytest.mark.parametrize(
    ("seconds", "days"), [(None, 365), (86_400, 1), (200_000, 2), (1 << 30, 365)]
)
def test_an_approved_request_is_signed_for_no_longer_than_asked(seconds, days):
    spec = requests.spec() if seconds is None else requests.spec(expirationSeconds=seconds)
    assert decide(csr(spec, "Approved"), rights(), NOW) == Sign("jane", ("dev",), days)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (requests.spec(usages=["server auth"]), "invalid usage for client certificate: server"),
        (requests.spec(usages=["digital signature"]), "missing required usage for client certi"),
        (requests.spec(requests.WITH_NAMES), "no client certificates with subjectAltNames"),
        (requests.spec(expirationSeconds=3600), "a day or longer, and expirationSeconds is 3600"),
        (requests.of_node(usages=["client auth"]), "usages did not match [client auth digital"),
        (requests.spec(signer=requests.KUBELET), "subject organization is not system:nodes"),
        (
            requests.spec(requests.WITH_NAMES, requests.KUBELET),
            "DNS subjectAltNames are not allowed",
        ),
        (
            requests.of_node(
                request=requests.encoded(
                    certificates.make_csr("jane", ["system:nodes"]).certificate
                )
            ),
            "subject common name does not begin with system:node:",
        ),
    ],
)
def test_what_cannot_be_signed_fails_and_says_why(spec, says):
    step = decide(csr(spec, "Approved"), rights(), NOW)
    assert isinstance(step, Fail)
    assert says in step.message


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (certificate_requests.CertificateRequest(), "has none"),
        (certificate_requests.CertificateRequest("a", ("b", "c")), "the request has 2"),
    ],
)
def test_nothing_is_left_out_of_a_certificate_silently(request_, says):
    assert says in rules.limit(request_, None)


@pytest.mark.parametrize("signer", ["example.com/x", "kubernetes.io/kubelet-serving"])
def test_what_others_sign_waits_for_them_and_stays(signer):
    waiting = csr(requests.spec(signer=signer), "Approved", age=30 * DAY)
    assert decide(waiting, rights(), NOW) == Wait(0.0)


@pytest.mark.parametrize(
    ("conditions", "certificate", "hours"),
    [
        ((), "", 24),
        (("Denied",), "", 1),
        (("Approved", "Failed"), "", 1),
        (("Approved",), issued(), 1),
    ],
)
def test_requests_are_kept_as_long_as_upstream_keeps_them(conditions, certificate, hours):
    spec = requests.spec(signer="example.com/x")
    young = csr(spec, *conditions, age=hours * HOUR - 10, certificate=certificate)
    assert decide(young, rights(), NOW) == Wait(11.0)
    old = csr(spec, *conditions, age=hours * HOUR + 10, certificate=certificate)
    assert decide(old, rights(), NOW) == Remove()


def test_an_issued_request_goes_with_its_certificate():
    certificate = issued()
    ends = certificates.inspect(certificate).not_after
    held = csr(None, "Approved", certificate=certificate)
    held["status"]["conditions"][0]["lastUpdateTime"] = text_of(ends)
    assert decide(held, rights(), ends - 5) == Wait(6.0)
    assert decide(held, rights(), ends + 5) == Remove()


def test_a_certificate_that_cannot_be_read_does_not_stop_anything():
    held = csr(None, "Approved")
    held["status"]["certificate"] = base64.b64encode(b"x").decode()
    assert isinstance(decide(held, rights(), NOW), Wait)
