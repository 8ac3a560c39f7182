# SPDX-License-Identifier: Apache-2.0
"""The client against our own API server, over real HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kedge import errors
from kedge.api.keys import ObjectKey
from kedge.kube import KubeClient
from tests.integration.kubeapi.conftest import TOKEN, Api, pod, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kedge.runtime import Runtime

KEY = ObjectKey("", "pods", "default", "a")


@contextlib.asynccontextmanager
async def running(client: KubeClient) -> AsyncIterator[KubeClient]:
    task = asyncio.ensure_future(client.run())
    yield client
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_objects_are_read_with_a_certificate(api: Api) -> None:
    api.put(pod("a"))
    async with running(KubeClient(api.runtime, api.cluster())) as client:
        assert (await client.get(KEY))["metadata"]["name"] == "a"
        assert [item["metadata"]["name"] for item in await client.list("", "pods")] == ["a"]
        with pytest.raises(errors.NotFound, match='pods "b" not found'):
            await client.get(KEY._replace(name="b"))


async def test_a_token_file_is_a_way_in(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    cluster = replace(api.cluster(), certificate="", key="", token_file=file)
    async with running(KubeClient(api.runtime, cluster)) as client:
        assert await client.list("", "pods") == []
        client.handle.set_token("wrong")
        with pytest.raises(errors.Unauthorized):
            await client.list("", "pods")


async def test_many_requests_share_a_few_connections(api: Api) -> None:
    api.put(pod("a"))
    async with running(KubeClient(api.runtime, api.cluster())) as client:
        found = await asyncio.gather(*(client.get(KEY) for _ in range(200)))
    assert {item["metadata"]["name"] for item in found} == {"a"}


async def test_writes_reach_the_server_with_their_type(api: Api) -> None:
    pump = asyncio.ensure_future(api.server.run())
    async with running(KubeClient(api.runtime, api.cluster())) as client:
        await client.create(KEY, pod("a"))
        await client.patch_status(KEY, {"status": {}})
        await client.update(KEY, pod("a"))
        await client.delete(KEY, {"gracePeriodSeconds": 0})
    pump.cancel()
    path = "/api/v1/namespaces/default/pods"
    assert [(asked.method, asked.path, asked.content_type) for asked in api.asked] == [
        ("POST", path, "application/json"),
        ("PATCH", f"{path}/a/status", "application/merge-patch+json"),
        ("PUT", f"{path}/a", "application/json"),
        ("DELETE", f"{path}/a", "application/json"),
    ]


async def test_a_server_that_is_away_is_disconnected(api: Api) -> None:
    cluster = replace(api.cluster(), server="https://127.0.0.1:1")
    async with running(KubeClient(api.runtime, cluster)) as client:
        with pytest.raises(errors.Disconnected, match=r"cannot reach 127\.0\.0\.1:1"):
            await client.get(KEY)


async def test_a_server_of_another_authority_or_name_is_not_trusted(api: Api) -> None:
    for cluster in (
        replace(api.cluster(), ca=api.keys.stranger.certificate),
        replace(api.cluster(), server_name="another.example"),
    ):
        async with running(KubeClient(api.runtime, cluster)) as client:
            with pytest.raises(errors.Disconnected, match="certificate"):
                await client.get(KEY)


async def test_an_answer_that_does_not_come_is_given_up(api: Api) -> None:
    async with running(KubeClient(api.runtime, api.cluster())) as client:
        with pytest.raises(errors.Disconnected, match="no answer"):
            await client.request("POST", "/api/v1/namespaces/default/pods", {}, timeout_seconds=0.2)


async def test_a_server_that_restarted_is_asked_on_a_new_connection(
    runtime: Runtime, tmp_path: Path, api: Api
) -> None:
    async with running(KubeClient(runtime, api.cluster())) as client:
        assert await client.list("", "pods") == []
        api.server.close()
        again = serve(runtime, tmp_path, api.keys, port=api.port, store=api.store)
        assert await client.list("", "pods") == []
    again.server.close()


def test_a_server_that_is_no_url_is_refused(runtime: Runtime, api: Api) -> None:
    for server in ("", "http://127.0.0.1:1", "127.0.0.1:6443"):
        with pytest.raises(errors.Invalid, match="server"):
            KubeClient(runtime, replace(api.cluster(), server=server))
