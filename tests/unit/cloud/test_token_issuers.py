# SPDX-License-Identifier: Apache-2.0
"""Who issues tokens, as nodes are told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kedge.cloud.token_issuers import CONFIGURATION, KEY, KEYS, TokenIssuers, to_object
from kedge.errors import KedgeError
from kedge.store import Store

ISSUER = {"issuer": "https://kubernetes.default.svc", "jwks_uri": "x"}


class Api:
    """Answers at the OpenID endpoints."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [{"kty": "EC", "kid": "a"}]

    async def request(self, method: str, path: str) -> dict[str, Any]:
        assert method == "GET"
        return {CONFIGURATION: ISSUER, KEYS: {"keys": self.keys}}[path]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store.open(tmp_path / "mirror", mode="replica", durable=False)
    yield opened
    opened.close()


async def test_a_new_key_reaches_the_mirror_and_nothing_new_changes_nothing(store: Store) -> None:
    api = Api()
    issuers = TokenIssuers(api, store)  # type: ignore[arg-type]
    running = asyncio.create_task(store.run())
    await issuers.look()
    first = store.get(KEY)
    assert first is not None
    assert json.loads(first.value)["spec"]["issuer"] == ISSUER["issuer"]
    await issuers.look()
    assert store.get(KEY) == first
    api.keys.append({"kty": "EC", "kid": "b"})
    await issuers.look()
    second = store.get(KEY)
    assert second is not None
    assert [key["kid"] for key in json.loads(json.loads(second.value)["spec"]["jwks"])["keys"]] == [
        "a",
        "b",
    ]
    await issuers.known()
    running.cancel()


@pytest.mark.parametrize("configuration", [{}, {"issuer": ""}, {"issuer": 7}])
def test_an_answer_that_names_no_issuer_is_refused(configuration: dict[str, Any]) -> None:
    with pytest.raises(KedgeError, match="wanted an issuer"):
        to_object(configuration, {"keys": []})


def test_keys_beyond_all_measure_are_refused() -> None:
    with pytest.raises(KedgeError, match="larger than 65536 bytes"):
        to_object(ISSUER, {"keys": [{"n": "x" * 70_000}]})
