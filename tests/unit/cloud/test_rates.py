# SPDX-License-Identifier: Apache-2.0
"""How often an address may ask."""

from __future__ import annotations

from kedge.cloud import rates


def test_an_address_may_ask_so_often_a_minute_and_others_do_not_suffer():
    limit = rates.Rates(3)
    assert [limit.allow("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limit.allow("b", 0.0)
    assert not limit.allow("a", 19.0)
    assert limit.allow("a", 20.0)


def test_the_number_of_addresses_remembered_is_limited(monkeypatch):
    monkeypatch.setattr(rates, "MAX_ADDRESSES", 2)
    limit = rates.Rates(1)
    for address in "abc":
        assert limit.allow(address, 0.0)
    assert limit.allow("a", 0.0)
    assert not limit.allow("c", 0.0)
