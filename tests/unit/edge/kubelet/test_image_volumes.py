# SPDX-License-Identifier: Apache-2.0
"""Image volumes: which runtimes are asked for them, and what they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kedge.edge.kubelet.container import mounts
from kedge.edge.kubelet.images.images import Images
from kedge.edge.kubelet.volumes import Prepared, Request, VolumeError
from kedge.edge.kubelet.volumes.image_volumes import ImageVolumes, can_mount
from kedge.edge.runtime.fake import FakeRuntime
from kedge.edge.runtime.types import RuntimeVersion
from tests.unit.edge.kubelet.test_volumes import Held, pod

NEW = RuntimeVersion("containerd", "v2.1.4", "v1")


class Runtime(FakeRuntime):
    """One that says another version of itself."""

    found = NEW

    async def version(self) -> RuntimeVersion:
        return self.found


def request(**source: Any) -> Request:
    volume = {"name": "v", "image": source}
    return Request(pod(volume), "v", "image", source, Held())


@pytest.mark.parametrize(
    ("name", "version", "can"),
    [
        ("containerd", "1.6.20~ds1", False),
        ("containerd", "v2.0.9", False),
        ("containerd", "v2.1.0", True),
        ("containerd", "2.3.1+x", True),
        ("cri-o", "1.30.4", False),
        ("cri-o", "1.31.0", True),
        ("another", "9.9.9", False),
        ("containerd", "", False),
    ],
)
def test_a_runtime_is_asked_only_if_its_version_mounts_images(
    name: str, version: str, *, can: bool
) -> None:
    assert can_mount(name, version) is can


async def test_an_image_is_pulled_and_the_runtime_is_told_to_mount_it(tmp_path: Path) -> None:
    runtime = Runtime()
    found = await ImageVolumes(runtime, Images(runtime)).prepare(
        request(reference="example/data:1")
    )
    image = await runtime.image_status("example/data:1")
    assert image is not None
    assert found == Prepared("", read_only=True, image=image.id)
    held = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "part"}]}
    told = mounts.build(
        held, volumes={"v": found}, variables={}, directory=tmp_path, hosts=None, attempt=0
    )[0]
    assert told["image"] == {"image": image.id}
    assert (told["image_sub_path"], told["readonly"], told["host_path"]) == ("part", True, "")


async def test_an_older_runtime_is_named_with_what_is_wanted() -> None:
    runtime = Runtime()
    runtime.found = RuntimeVersion("containerd", "1.6.20~ds1", "v1")
    with pytest.raises(VolumeError, match=r"wanted containerd 2\.1 or cri-o 1\.31 or newer"):
        await ImageVolumes(runtime, Images(runtime)).prepare(request(reference="example/data:1"))


async def test_an_image_that_may_not_be_pulled_and_is_not_there_is_named() -> None:
    runtime = Runtime()
    runtime.missing_images.add("example/other:1")
    with pytest.raises(VolumeError, match="pull policy of Never"):
        await ImageVolumes(runtime, Images(runtime)).prepare(
            request(reference="example/other:1", pullPolicy="Never")
        )
