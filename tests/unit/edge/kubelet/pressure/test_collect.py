# SPDX-License-Identifier: Apache-2.0
"""What nobody uses any more, and what is kept all the same."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from kedge import metrics
from kedge.edge.kubelet import labels
from kedge.edge.kubelet.images.images import Images
from kedge.edge.kubelet.pod.state import Ended
from kedge.edge.kubelet.pressure import collect
from kedge.edge.kubelet.pressure.manager import Settings
from kedge.edge.runtime import ContainerInfo, Image
from kedge.edge.runtime.fake import FakeRuntime
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    from kedge.edge.kubelet.images.imported import Imported

NOW = 1_800_000_000.0
MB = 1_000_000


class Node:
    """A collector on a fake runtime with images, pods and a clock that the test moves."""

    def __init__(self, **settings: Any) -> None:
        self.now = NOW
        self.runtime = FakeRuntime(lambda: self.now)
        self.sizes: dict[str, int] = {}
        self.pinned: set[str] = set()
        self.workers: list[Any] = []
        self.events: list[tuple[str, str]] = []
        self.runtime.list_images = self._list  # type: ignore[method-assign]
        recorder = SimpleNamespace(
            node=lambda reason, text, **_: self.events.append((reason, text))
        )
        self.images = Images(self.runtime)
        tools: Any = SimpleNamespace(
            runtime=self.runtime, images=self.images, recorder=recorder, clock=lambda: self.now
        )
        self.imported: set[str] = set()
        self.collector = collect.Collector(
            tools,
            lambda: self.workers,
            Settings(**settings),
            NOW,
            cast(
                "Imported",
                SimpleNamespace(ids=lambda: set(self.imported), drop=self.imported.discard),
            ),
        )

    async def _list(self) -> list[Image]:
        return [
            Image(
                f"sha256:{name}",
                (f"docker.io/{name}:1",),
                size_bytes=size,
                is_pinned=name in self.pinned,
            )
            for name, size in self.sizes.items()
        ]

    def has(self, **sizes: int) -> Node:
        for name, size in sizes.items():
            self.sizes[f"lib/{name}"] = size * MB
        return self

    def work(self, wanted: dict[str, Any], **more: Any) -> None:
        values = {"pod": wanted, "uid": wanted["metadata"]["uid"], "ended": None, "containers": {}}
        values |= {"is_wound_down": lambda: False, "latest_containers": list}
        values |= {"observe_container": lambda *_: None}
        self.workers.append(SimpleNamespace(**values | more))

    def run(self, what: Any) -> set[str]:
        """Names of the images that went."""
        asyncio.run(what)
        return {one.removeprefix("sha256:lib/") for one in self.runtime.missing_images}


def test_the_least_recently_used_go_until_enough_is_free() -> None:
    node = Node().has(new=10, old=10, older=10)
    node.images.last_used = {"sha256:lib/new": NOW - 1, "sha256:lib/old": NOW - 50}
    before = metrics.read("kubelet_image_garbage_collected_total", reason="space")
    assert node.run(node.collector.make_room(15 * MB)) == {"older", "old"}
    assert metrics.read("kubelet_image_garbage_collected_total", reason="space") == before + 2
    assert node.events == []


def test_imported_images_stay_and_the_record_of_one_that_is_gone_goes() -> None:
    node = Node().has(imported=10, other=10)
    node.imported |= {"sha256:lib/imported", "sha256:lib/gone"}
    assert node.run(node.collector.make_room(20 * MB)) == {"other"}
    assert node.imported == {"sha256:lib/imported"}


def test_what_cannot_be_freed_is_said() -> None:
    node = Node().has(only=10)
    node.run(node.collector.make_room(15 * MB))
    ((reason, text),) = node.events
    assert reason == "FreeDiskSpaceFailed"
    assert "Attempted to free 15000000 bytes, but only found 10000000 bytes" in text


def test_images_in_use_pinned_fresh_and_the_sandboxs_own_stay() -> None:
    node = Node(image_minimum_age_seconds=120).has(runs=1, named=1, mounted=1, pinned=1, fresh=1)
    node.has(unused=1)
    node.sizes["pause"] = 1
    node.sizes["kedge/pause"] = 1
    node.pinned = {"lib/pinned"}
    node.images.pulled = {"sha256:lib/fresh": NOW - 60}
    node.runtime.containers["c"] = ContainerInfo(
        "c", "s", "main", 0, "exited", image_ref="sha256:lib/runs"
    )
    wanted = pod(spec(image="lib/named:1"))
    wanted["spec"]["volumes"] = [{"name": "v", "image": {"reference": "lib/mounted:1"}}]
    node.work(wanted)
    assert node.run(node.collector.remove_images(1 << 40)) == {"unused"}


def test_a_pod_that_ended_for_good_holds_no_image() -> None:
    node = Node().has(a=1, b=1)
    over, evicted = pod(spec(image="lib/a:1")), pod(spec(image="lib/b:1"))
    over["status"] = {"phase": "Succeeded"}
    node.work(over)
    node.work(evicted, ended=Ended("Evicted", ""))
    assert node.run(node.collector.remove_images(1 << 40)) == {"a", "b"}


def test_what_nobody_used_for_the_maximum_age_goes() -> None:
    node = Node(image_maximum_age_seconds=100).has(a=1, b=1, c=1)
    node.images.last_used = {"sha256:lib/a": NOW + 50}
    node.images.pulled = {"sha256:lib/b": NOW + 60}
    node.now = NOW + 120
    assert node.run(node.collector.remove_old()) == {"c"}


def test_an_image_that_the_runtime_keeps_is_said_and_the_next_one_tried() -> None:
    node = Node().has(a=1)
    node.runtime.fail["remove_image"] = "it is busy"
    node.run(node.collector.make_room(1))
    assert [reason for reason, _ in node.events] == ["ImageGCFailed", "FreeDiskSpaceFailed"]


def dead(node: Node, number: int, uid: str) -> str:
    one = ContainerInfo(
        f"c{number}",
        "s",
        "main",
        number,
        "exited",
        created_at=NOW + number,
        labels={labels.POD_UID: uid},
    )
    node.runtime.containers[one.id] = one
    return one.id


def test_the_oldest_dead_containers_go_but_never_a_living_pods_last() -> None:
    node = Node(dead_containers=1)
    names = [dead(node, number, "u1") for number in range(4)]
    dead(node, 9, "another node's")
    latest = [SimpleNamespace(id=names[3])]
    node.work(pod(), latest_containers=lambda: latest)
    node.run(node.collector.limit_dead())
    assert sorted(node.runtime.containers) == ["c2", "c3", "c9"]


def test_a_short_disk_takes_all_dead_containers_of_ended_pods_only() -> None:
    node = Node()
    for number in range(2):
        dead(node, number, "u1")
        dead(node, number + 10, "u2")
    ended = pod()
    ended["metadata"]["uid"] = "u2"
    node.work(pod())
    node.work(ended, is_wound_down=lambda: True)
    node.run(node.collector.reclaim())
    assert sorted(node.runtime.containers) == ["c0", "c1"]


@pytest.mark.parametrize(
    ("reference", "whole"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("kedge/web:2", "docker.io/kedge/web:2"),
        ("localhost/web", "localhost/web:latest"),
        ("quay.io:5000/a/b@sha256:12", "quay.io:5000/a/b@sha256:12"),
    ],
)
def test_a_short_name_is_what_the_runtime_writes(reference: str, whole: str) -> None:
    assert collect.names_of(reference) == {reference, whole}
