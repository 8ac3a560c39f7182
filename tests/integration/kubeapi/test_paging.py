# SPDX-License-Identifier: Apache-2.0
"""Lists in pages over real HTTPS: what remains, and what becomes of tokens whose time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.kubeapi.conftest import Api, Keys, pod, serve

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.runtime import Runtime


def names(items: list[dict]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def test_pages_say_how_many_objects_remain(api: Api) -> None:
    for number in range(5):
        api.put(pod(f"p{number}"))
    first = api.get("/api/v1/pods?limit=2").json["metadata"]
    assert first["remainingItemCount"] == 3
    api.delete(pod("p4"))
    path = f"/api/v1/pods?limit=2&continue={first['continue']}"
    assert api.get(path).json["metadata"]["remainingItemCount"] == 1
    assert "remainingItemCount" not in api.get("/api/v1/pods").json["metadata"]
    selected = api.get("/api/v1/pods?limit=1&labelSelector=!x").json["metadata"]
    assert selected["continue"]
    assert "remainingItemCount" not in selected


def test_an_expired_token_is_answered_with_one_that_goes_on_as_of_now(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, history=16)
    try:
        for name in ("a", "b", "c", "d"):
            then = api.put(pod(name))
        token = api.get("/api/v1/pods?limit=2").json["metadata"]["continue"]
        api.delete(pod("c"))
        for _ in range(40):
            api.put(pod("e"))
        expired = api.get(f"/api/v1/pods?limit=2&continue={token}")
        assert (expired.status, expired.json["reason"]) == (410, "Expired")
        assert expired.json["message"].startswith(
            "The provided continue parameter is too old to display a consistent list result. "
            "You can start a new list without the continue parameter, or use the continue token in"
        )
        rest = api.get(f"/api/v1/pods?continue={expired.json['metadata']['continue']}").json
        assert names(rest["items"]) == ["d", "e"]
        assert rest["metadata"]["resourceVersion"] == str(api.store.revision)
        exact = api.get(f"/api/v1/pods?resourceVersion={then}&resourceVersionMatch=Exact")
        assert (exact.status, exact.json["reason"], exact.json["message"]) == (
            410,
            "Expired",
            "The resourceVersion for the provided list is too old.",
        )
        assert "continue" not in exact.json["metadata"]
        foreign = api.get("/api/v1/pods?limit=2&continue=nonsense")
        assert (foreign.status, foreign.json["reason"]) == (400, "BadRequest")
    finally:
        api.server.close()
        api.store.close()
