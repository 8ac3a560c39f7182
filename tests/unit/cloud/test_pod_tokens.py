# SPDX-License-Identifier: Apache-2.0
"""Tokens are in the mirror while the pods that need them are, and their node is here."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud.pod_tokens import PodTokens
from kedge.cloud.sessions import Session, Sessions
from kedge.errors import Disconnected
from kedge.store import Store, delete, put
from tests.fakes.kubernetes import FakeApi

ACCOUNT = ObjectKey("", "serviceaccounts", "default", "default")


def pod(name, node="a", uid="u1"):
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"nodeName": node, "volumes": [{"projected": {"sources": [token]}}]},
    }


def key(name):
    return ObjectKey("", "pods", "default", name)


def tokens(store):
    items = store.list("kedge.io", "serviceaccounttokens").items
    return {item.key.name.rpartition(".")[0]: json.loads(item.value) for item in items}


async def until(check):
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


class Rig:
    def __init__(self, store):
        self.store, self.api, self.sessions = store, FakeApi(), Sessions()
        self.api.objects[ACCOUNT] = {"metadata": {"name": "default"}}
        self.tokens = PodTokens(self.api, store, self.sessions)

    async def put(self, *pods):
        await self.store.commit(
            [put(key(one["metadata"]["name"]), json.dumps(one).encode()) for one in pods]
        )

    def connect(self, node="a"):
        self.sessions.connected(Session(1, node))
        self.tokens.connected(node)

    @asynccontextmanager
    async def running(self):
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self.store.run()), loop.create_task(self.tokens.run())]
        await asyncio.sleep(0)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def rig(tmp_path):
    store = Store.open(tmp_path / "mirror", mode="replica", durable=False)
    yield Rig(store)
    store.close()


async def test_twenty_pods_have_their_tokens_minted_side_by_side(rig):
    rig.api.delay_seconds = 0.01
    async with rig.running():
        rig.connect()
        await rig.put(*(pod(f"p{number}") for number in range(20)))
        await until(lambda: len(tokens(rig.store)) == 20)
    assert rig.api.most_active == 16
    minted = tokens(rig.store)["p0"]
    assert minted["spec"] == {"podUID": "u1", "audience": "", "expirationSeconds": 3607}
    assert minted["status"]["token"].startswith("minted-")


async def test_a_node_that_is_elsewhere_gets_its_tokens_when_it_comes(rig):
    async with rig.running():
        await rig.put(pod("p"))
        await asyncio.sleep(0.05)
        assert not rig.api.calls
        rig.connect()
        await until(lambda: tokens(rig.store))
        await rig.put(pod("p") | {"status": {"phase": "Running"}})
        await asyncio.sleep(0.05)
    assert len(rig.api.calls) == 1


async def test_a_token_goes_with_its_pod(rig):
    async with rig.running():
        rig.connect()
        await rig.put(pod("p"), pod("q"))
        await until(lambda: len(tokens(rig.store)) == 2)
        await rig.store.commit([delete(key("p"))])
        await until(lambda: set(tokens(rig.store)) == {"q"})


async def test_a_pod_of_the_same_name_gets_its_own_token(rig):
    async with rig.running():
        rig.connect()
        await rig.put(pod("p"))
        await until(lambda: tokens(rig.store))
        await rig.put(pod("p", uid="u2"))
        await until(lambda: tokens(rig.store)["p"]["spec"]["podUID"] == "u2")


async def test_tokens_of_pods_that_went_while_the_cloud_was_away_are_removed(rig):
    async with rig.running():
        rig.connect()
        await rig.put(pod("p"))
        await until(lambda: tokens(rig.store))
    rig.store.commit_now([delete(key("p"))])
    again = Rig(rig.store)
    async with again.running():
        await until(lambda: not tokens(rig.store))


async def test_minting_goes_on_after_the_api_was_away(rig, monkeypatch):
    rig.api.failures = [Disconnected("away"), Disconnected("away")]
    async with rig.running():
        rig.connect()
        await rig.put(pod("p"))
        await until(lambda: tokens(rig.store))
    assert len(rig.api.calls) == 3


async def test_a_token_near_its_end_is_renewed(rig):
    async with rig.running():
        rig.connect()
        await rig.put(pod("p"))
        await until(lambda: tokens(rig.store))
        [token] = rig.store.list("kedge.io", "serviceaccounttokens").items
        old = json.loads(token.value)
        old["status"]["expirationTimestamp"] = "2020-01-01T00:00:00Z"
        await rig.store.commit([put(token.key, json.dumps(old).encode())])
        rig.connect()
        await until(lambda: tokens(rig.store)["p"]["status"] != old["status"])


def object_of(group, resource, namespace, name, **parts):
    stored = ObjectKey(group, resource, namespace, name)
    return put(stored, json.dumps({"metadata": {"name": name}} | parts).encode())


@pytest.mark.parametrize("last", ["persistentvolumeclaims", "persistentvolumes", "csidrivers"])
async def test_tokens_that_a_driver_wants_come_whatever_comes_last(rig, last):
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    waiting = pod("p") | {"spec": {"nodeName": "a", "volumes": [volume]}}
    spec = {"tokenRequests": [{"audience": "vault"}]}
    driver = object_of("storage.k8s.io", "csidrivers", "", "drv", spec=spec)
    reference = {"namespace": "default", "name": "data"}
    made = {"csi": {"driver": "drv"}, "claimRef": reference}
    persistent = object_of("", "persistentvolumes", "", "pv", spec=made)
    claim = object_of("", "persistentvolumeclaims", "default", "data", spec={"volumeName": "pv"})
    every = [persistent, driver, claim]
    async with rig.running():
        rig.connect()
        await rig.put(waiting)
        await rig.store.commit([one for one in every if one.key.resource != last])
        await asyncio.sleep(0.05)
        assert not rig.api.calls
        await rig.store.commit([one for one in every if one.key.resource == last])
        await until(lambda: tokens(rig.store))
        assert tokens(rig.store)["p"]["spec"]["audience"] == "vault"
        await rig.store.commit([object_of("storage.k8s.io", "csidrivers", "", "drv", spec={})])
        await until(lambda: not tokens(rig.store))
