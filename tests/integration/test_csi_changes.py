# SPDX-License-Identifier: Apache-2.0
"""CSI volumes of running pods: growth, tokens, publishing again, and what they take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.csi import figures
from kedge.edge.kubelet.volumes import VolumeError
from kedge.edge.kubelet.volumes.sources import Request
from kedge.edge.kubelet.volumes.trees import SystemMounter
from tests.integration import csi_rig
from tests.integration.csi_rig import DRIVER, MARKS, Node, persistent, pod, until_removed
from tests.rig.processes import wait_until

pytestmark = MARKS


@pytest.fixture
def node() -> Iterator[Node]:
    with csi_rig.made() as found:
        yield found


def growing(node: Node, of: dict[str, Any], *, pending: bool = True, **csi: Any) -> Request:
    """A claim of 1Gi whose volume has 2Gi since its driver's controller grew it."""
    wait = [{"type": "FileSystemResizePending", "status": "True"}] if pending else []
    claim = {
        "metadata": {"name": "data", "namespace": "default", "uid": "claim-1"},
        "status": {"capacity": {"storage": "1Gi"}, "conditions": wait},
    }
    return persistent(node, of, size="2Gi", **csi)._replace(claim=claim)


async def test_a_claim_that_grows_is_told_to_the_driver_once_and_then_to_the_cloud(
    node: Node,
) -> None:
    async with node.with_driver() as csi:
        await csi.volumes.prepare(persistent(node, pod("one")))
        assert node.reports.sizes == []
        grown = growing(node, pod("one"))
        csi.volumes.refresh(grown)
        await asyncio.to_thread(wait_until, lambda: node.reports.sizes, 15, "it is reported")
        await csi.volumes.prepare(grown)
        assert set(node.reports.sizes) == {("data", "2Gi")}
        await csi.volumes.remove("uid-one")
    (told,) = node.control.calls("NodeExpandVolume")
    assert f"required_bytes: {2 << 30}" in told["capacity_range"]
    assert [one for one, _ in node.events.said] == ["FileSystemResizeSuccessful"]


async def test_a_volume_that_grew_while_no_pod_had_it_grows_when_one_has(node: Node) -> None:
    async with node.with_driver() as csi:
        await csi.volumes.prepare(growing(node, pod("one")))
        await csi.volumes.remove("uid-one")
    assert node.calls()[:3] == ["NodeStageVolume", "NodePublishVolume", "NodeExpandVolume"]
    assert node.reports.sizes == [("data", "2Gi")]


async def test_a_driver_that_cannot_grow_a_volume_yet_is_asked_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.source.GROW_AGAIN_SECONDS", 0.1)
    node.control.write(faults={"NodeExpandVolume": "the file system is busy"})
    async with node.with_driver() as csi:
        await csi.volumes.prepare(growing(node, pod("one")))
        assert [one for one, _ in node.events.said] == ["VolumeResizeFailed"]
        assert node.reports.sizes == []
        node.control.write(faults={})
        await asyncio.to_thread(wait_until, lambda: node.reports.sizes, 15, "it has grown")
        await csi.volumes.remove("uid-one")


async def test_a_driver_without_growing_on_nodes_has_nothing_to_do_there(node: Node) -> None:
    node.control.write(capabilities=[1])
    async with node.with_driver() as csi:
        await csi.volumes.prepare(growing(node, pod("one")))
        await csi.volumes.remove("uid-one")
    assert "NodeExpandVolume" not in node.calls()
    assert node.reports.sizes == [("data", "2Gi")]


TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"


def token(node: Node, text: str, audience: str = "vault") -> None:
    """The cloud's token for the pod ``one``."""
    node.objects[ObjectKey("kedge.io", "serviceaccounttokens", "default", f"one.{audience}")] = {
        "spec": {"podUID": "uid-one", "audience": audience, "expirationSeconds": 600},
        "status": {"token": text, "expirationTimestamp": "2026-01-01T00:00:00Z"},
    }


async def test_a_driver_gets_the_tokens_that_it_asks_for_once_they_are_there(node: Node) -> None:
    wanted = [{"audience": "vault", "expirationSeconds": 600}, {}]
    node.about(attachRequired=False, tokenRequests=wanted)
    async with node.with_driver() as csi:
        token(node, "for-the-api", audience="")
        with pytest.raises(VolumeError, match='token for audience "vault" has not come'):
            await csi.volumes.prepare(persistent(node, pod("one")))
        assert node.calls() == []
        token(node, "secret-1")
        await csi.volumes.prepare(persistent(node, pod("one")))
        await csi.volumes.remove("uid-one")
    (publish,) = node.control.calls("NodePublishVolume")
    until = "2026-01-01T00:00:00Z"
    assert json.loads(publish["volume_context"][TOKENS]) == {
        "vault": {"token": "secret-1", "expirationTimestamp": until},
        "": {"token": "for-the-api", "expirationTimestamp": until},
    }
    assert TOKENS not in node.control.calls("NodeStageVolume")[0]["volume_context"]
    assert node.events.said == []


async def test_a_driver_may_want_tokens_among_its_secrets(node: Node) -> None:
    node.about(
        attachRequired=False,
        tokenRequests=[{"audience": "vault"}],
        serviceAccountTokenInSecrets=True,
    )
    token(node, "secret-1")
    async with node.with_driver() as csi:
        await csi.volumes.prepare(persistent(node, pod("one")))
        await csi.volumes.remove("uid-one")
    (publish,) = node.control.calls("NodePublishVolume")
    assert json.loads(publish["secrets"][TOKENS])["vault"]["token"] == "secret-1"
    assert TOKENS not in publish["volume_context"]


def published(node: Node) -> list[str]:
    """The tokens with which the volume was published, in order."""
    calls = node.control.calls("NodePublishVolume")
    return [json.loads(one["volume_context"][TOKENS])["vault"]["token"] for one in calls]


async def until(holds: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, holds, 15, what)


async def test_a_driver_that_wants_to_publish_again_gets_the_newest_token(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.about(attachRequired=False, tokenRequests=[{"audience": "vault"}], requiresRepublish=True)
    token(node, "secret-1")
    asked = persistent(node, pod("one"))
    async with node.with_driver() as csi:
        await csi.volumes.prepare(asked)
        token(node, "secret-2")
        csi.volumes.refresh(asked)
        await until(lambda: published(node)[-1] == "secret-2", "it is published at once")
        monkeypatch.setattr("kedge.edge.kubelet.csi.republishing.SECONDS", 0.1)
    async with node.agent() as csi:  # the next agent takes it up again
        await node.registered()
        await csi.volumes.prepare(asked)
        token(node, "secret-3")
        await until(lambda: published(node)[-1] == "secret-3", "it is published now and then")
        node.control.write(faults={"NodePublishVolume": "the vault is closed"})
        wanted = (
            "FailedMount",
            f'MountVolume.SetUp failed for volume "data" : rpc error from {DRIVER}: the vault is closed',
        )
        await until(lambda: wanted in node.events.said, "it says so")
        assert SystemMounter().below(node.directory / "pods"), "the mount stays"
        node.control.write(faults={})
        await csi.volumes.remove("uid-one")
        count = len(published(node))
        await asyncio.sleep(0.5)
        assert len(published(node)) == count, "nothing is published after the end"
    assert node.calls().count("NodeStageVolume") == 1


async def test_a_driver_that_does_not_want_it_publishes_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.republishing.SECONDS", 0.05)
    async with node.with_driver() as csi:
        asked = persistent(node, pod("one"))
        await csi.volumes.prepare(asked)
        csi.volumes.refresh(asked)
        await asyncio.sleep(0.5)
        await csi.volumes.remove("uid-one")
    assert node.calls().count("NodePublishVolume") == 1


async def test_figures_of_a_driver_that_hangs_are_left_out_in_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.figures.SECONDS", 0.5)
    async with node.with_driver() as csi:
        for number in range(figures.AT_ONCE + 1):
            volume = persistent(node, pod(f"p{number}"), volumeHandle=f"v{number}")
            await csi.volumes.prepare(volume)
        uids = [f"uid-p{number}" for number in range(figures.AT_ONCE + 1)]
        node.control.write(faults={"NodeGetVolumeStats": "no such volume"})
        assert await csi.volumes.usage("uid-p0") == {}
        node.control.write(faults={})
        assert set(await csi.volumes.usage("uid-p0")) == {"pv-1"}
        node.control.write(faults={"NodeGetVolumeStats": "hang"})
        asked = asyncio.gather(*(csi.volumes.usage(uid) for uid in uids))
        assert await asyncio.wait_for(asked, 10) == [{}] * len(uids)
        node.programs[0].kill()
        node.control.write(faults={})
        node.start_driver()
        for uid in uids:
            await asyncio.wait_for(until_removed(csi, uid), 15)
