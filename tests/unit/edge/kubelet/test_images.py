# SPDX-License-Identifier: Apache-2.0
"""Image references, credentials that fit them, and how far a pull is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kedge.edge.kubelet.images import images, progress, registries
from kedge.edge.runtime.fake import FakeRuntime
from kedge.errors import RuntimeFailure

USER = {"username": "u", "password": "p"}


@pytest.mark.parametrize(
    "reference",
    [
        "busybox",
        "busybox:1.36",
        "library/busybox",
        "localhost/a-b__c.d:V1_x",
        "registry.example:5000/team/app:latest",
        "127.0.0.1:5000/app@sha256:" + "a" * 64,
    ],
)
def test_references_that_registries_could_have(reference: str) -> None:
    images.check_reference(reference)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("", "wanted names of letters"),
        ("Busybox", "must be lowercase"),
        ("registry.example/Team/app", "must be lowercase"),
        ("a//b", "wanted names"),
        ("a b", "wanted names"),
        ("-a", "wanted names"),
        ("a:", "wanted a tag"),
        ("a:.x", "wanted a tag"),
        ("a@sha256:12", "wanted a tag or digest"),
        ("a/../b", "wanted names"),
        ("a" * 300, "wanted names"),
    ],
)
def test_what_is_no_reference_is_refused_before_any_registry_is_asked(
    reference: str, why: str
) -> None:
    with pytest.raises(images.InvalidImageNameError, match=why):
        images.check_reference(reference)


def test_credentials_fit_by_host_and_path_the_most_specific_first() -> None:
    config = {
        "quay.example": {"username": "host"},
        "quay.example/team": {"username": "team"},
        "quay.example/tea": {"username": "other"},
        "*.example": {"username": "any"},
        "other.example": {"username": "else"},
        "quay.example:5000": {"username": "port"},
    }
    found = registries.candidates("quay.example/team/app:1", [config])
    assert [one["username"] for one in found] == ["team", "host", "any"]
    found = registries.candidates("quay.example:5000/app", [config])
    assert [one["username"] for one in found] == ["port"]


@pytest.mark.parametrize(
    "where", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"]
)
def test_docker_hub_has_several_names(where: str) -> None:
    for reference in ("busybox", "library/busybox:1", "docker.io/library/busybox"):
        assert registries.candidates(reference, [{where: USER}]), reference
    assert not registries.candidates("quay.io/a", [{where: USER}])


def test_secrets_come_before_the_nodes_file_and_the_same_entry_once() -> None:
    first, second = {"r.example": {"username": "pod"}}, {"r.example": {"username": "node"}}
    found = registries.candidates("r.example/a", [first, second, first])
    assert [one["username"] for one in found] == ["pod", "node"]


def test_the_nodes_file_is_read_and_a_broken_one_says_nothing_of_what_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"r.example": {"auth": "dTpw"}}}))
    (found,) = registries.candidates("r.example/a", [registries.of_file(str(path))])
    assert (found["username"], found["password"]) == ("u", "p")
    path.write_text('{"auths": {"r.example": {"password": "hidden"')
    assert registries.of_file(str(path)) == {}
    assert registries.of_file("") == {}
    assert registries.of_file(str(tmp_path / "absent")) == {}
    assert "cannot be read" in caplog.text
    assert "hidden" not in caplog.text


class Picky(FakeRuntime):
    """Lets one user pull."""

    def __init__(self, user: str, refusal: str = "401 Unauthorized") -> None:
        super().__init__()
        self.user, self.refusal, self.tried = user, refusal, []  # type: ignore[var-annotated]
        self.missing_images.add("r.example/a:1")

    async def pull_image(self, image: str, auth: dict[str, Any] | None) -> str:
        self.tried.append((auth or {}).get("username", ""))
        if self.tried[-1] != self.user:
            raise RuntimeFailure(self.refusal)
        return await super().pull_image(image, auth)


async def test_each_credential_that_fits_is_tried() -> None:
    runtime = Picky("second")
    auths = [{"username": "first"}, {"username": "second"}, {"username": "third"}]
    pulled = await images.Images(runtime).pull({"image": "r.example/a:1"}, auths)
    assert runtime.tried == ["first", "second"]
    assert pulled.image.tags == ("r.example/a:1",)


async def test_a_refused_pull_says_why_once_and_a_silent_registry_is_told_apart() -> None:
    refused = images.Images(Picky("nobody"))
    with pytest.raises(images.ImagePullError, match=r"^401 Unauthorized$") as error:
        await refused.pull({"image": "r.example/a:1"}, [{"username": "a"}, {"username": "b"}])
    assert error.value.reason == "ErrImagePull"
    away = images.Images(Picky("nobody", "dial tcp 10.0.0.1:443: connect: connection refused"))
    with pytest.raises(images.RegistryUnavailableError) as error:
        await away.pull({"image": "r.example/a:1"}, [])
    reason, text = images.event("r.example/a:1", error.value)
    assert reason == "Failed"
    assert "because the registry is unavailable" in text


async def test_no_more_pulls_than_allowed_run_at_a_time() -> None:
    running: list[int] = []

    class Counting(FakeRuntime):
        now = 0

        async def pull_image(self, image: str, auth: dict[str, Any] | None) -> str:
            self.now += 1
            running.append(self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return await super().pull_image(image, auth)

    counting = Counting()
    counting.missing_images.update(f"r.example/a:{at}" for at in range(6))
    found = images.Images(counting, parallel=2)
    async with asyncio.TaskGroup() as group:
        for at in range(6):
            group.create_task(found.pull({"image": f"r.example/a:{at}"}, []))
    assert (len(running), max(running)) == (6, 2)


def ingest(root: Path, name: str, data: int, total: str | None) -> Path:
    directory = root / "io.containerd.content.v1.content" / "ingest" / name
    directory.mkdir(parents=True)
    (directory / "data").write_bytes(b"x" * data)
    if total is not None:
        (directory / "total").write_text(total)
    return root / "io.containerd.snapshotter.v1.overlayfs"


def test_what_is_received_is_read_from_the_runtimes_files(tmp_path: Path) -> None:
    assert progress.receiving(tmp_path / "absent") == (0, 0)
    mountpoint = ingest(tmp_path, "one", 10, "40")
    assert progress.receiving(mountpoint) == (10, 40)
    ingest(tmp_path, "two", 5, None)
    assert progress.receiving(mountpoint) == (15, 0), "not all sizes are known"


async def test_a_long_pull_says_how_far_it_is_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.02)
    said: list[str] = []
    mountpoint = ingest(tmp_path, "one", 1_500_000, "3000000")
    telling = progress.Progress(said.append, str(mountpoint), lambda: 1)
    await asyncio.sleep(0.3)
    telling.stop()
    assert 2 <= len(said) <= 4
    assert said[0].endswith("1.5 MB received of 3.0 MB in layers under way")
    count = len(said)
    await asyncio.sleep(0.05)
    assert len(said) == count
