# SPDX-License-Identifier: Apache-2.0
"""The hub asks the API before it refuses a certificate, and no answer is no verdict."""

from __future__ import annotations

import json

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud import lookups, names
from kedge.errors import ApiError, DeadlineExceeded, Disconnected
from tests.fakes.kubernetes import FakeApi

NODE = ObjectKey("", "nodes", "", "a")


async def test_a_node_is_given_as_the_api_has_it():
    api = FakeApi()
    await api.create(NODE, names.new_node("a", "sha256:one"))
    answer = await lookups.Lookups(api).answer("a", "10.0.0.1:5")
    assert answer.status == 200
    assert json.loads(answer.body) == api.objects[NODE]


async def test_a_node_that_is_gone_is_not_found():
    assert (await lookups.Lookups(FakeApi()).answer("a", "10.0.0.1:5")).status == 404


@pytest.mark.parametrize(
    "failure", [Disconnected("away"), ApiError("broken"), DeadlineExceeded("slow")]
)
async def test_an_api_that_cannot_say_is_no_verdict(failure):
    answer = await lookups.Lookups(FakeApi(failures=[failure])).answer("a", "10.0.0.1:5")
    assert (answer.status, answer.body) == (503, b"the Kubernetes API does not answer")


async def test_an_api_that_is_slow_is_no_verdict(monkeypatch):
    monkeypatch.setattr(lookups, "SECONDS", 0.01)
    answer = await lookups.Lookups(FakeApi(delay_seconds=60)).answer("a", "10.0.0.1:5")
    assert answer.status == 503


async def test_a_node_that_comes_too_often_does_not_reach_the_api():
    api = FakeApi()
    asked = lookups.Lookups(api)
    statuses = [
        (await asked.answer("a", "10.0.0.1:5")).status for _ in range(lookups.PER_MINUTE + 1)
    ]
    assert statuses == [404] * lookups.PER_MINUTE + [503]
    assert len(api.calls) == lookups.PER_MINUTE
    assert (await asked.answer("b", "10.0.0.1:5")).status == 404
