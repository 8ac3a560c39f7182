# SPDX-License-Identifier: Apache-2.0
"""The authority is made once and read by everybody after."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud import authority
from kedge.cloud.config import CloudConfig
from kedge.errors import CertificateError
from kedge.hub import certificates, tokens
from tests.fakes.kubernetes import FakeApi

CA = ObjectKey("", "secrets", tokens.NAMESPACE, tokens.CA_SECRET)


async def test_replicas_that_start_together_end_with_one_authority():
    api = FakeApi(delay_seconds=0.001)
    found = await asyncio.gather(*(authority.load(api) for _ in range(5)))
    assert len({one.ca.certificate for one in found}) == 1
    assert len({one.token_key for one in found}) == 1


async def test_a_secret_with_a_foreign_key_is_refused():
    api = FakeApi()
    await authority.load(api)
    other = FakeApi()
    await authority.load(other)
    api.objects[CA]["data"]["tls.key"] = other.objects[CA]["data"]["tls.key"]
    with pytest.raises(CertificateError, match=r"tls\.key is not the key of tls\.crt"):
        await authority.load(api)
    del api.objects[CA]["data"]["tls.key"]
    with pytest.raises(CertificateError, match=r"wanted a base64 entry tls\.key"):
        await authority.load(api)


async def test_the_hub_has_its_fixed_name_and_the_addresses_it_is_reached_at():
    trusted = await authority.load(FakeApi())
    config = CloudConfig(listen="0.0.0.0:1", advertise=("hub.example", "192.0.2.1"))
    pair = authority.server_certificate(trusted, config)
    sans = certificates.inspect(pair.certificate).sans
    assert sans[0] == "DNS:kedge-hub"
    assert {
        "DNS:hub.example",
        "IP:192.0.2.1",
        "IP:127.0.0.1",
        f"DNS:{socket.gethostname()}",
    } <= set(sans)
    assert "IP:0.0.0.0" not in sans


def test_keys_never_show_in_a_representation():
    pair = certificates.create_ca("a", days=1)
    assert "PRIVATE" not in repr(authority.Authority(pair, certificates.new_key()))
