# SPDX-License-Identifier: Apache-2.0
"""Images from a registry that is slow, cut, closed to strangers or absent, and from an archive."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.wayward_registry import Registry
from tests.rig.kubectl import Kubectl
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NOISE = 12 << 20


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("images") as one:
        yield one


@pytest.fixture
def kubectl(system: System) -> Iterator[Kubectl]:
    found = Kubectl.of(system)
    yield found
    found("delete", "pods", "--all", "--wait=true")


def pod(name: str, image: str, **spec: Any) -> str:
    main = {"name": "main", "image": image, "command": ["sleep", "1000000"]}
    main |= spec.pop("container", {})
    spec = {"containers": [main], "terminationGracePeriodSeconds": 0} | spec
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def status(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.json("get", "pod", name)["status"]
    return found


def waiting(kubectl: Kubectl, name: str) -> tuple[str, str]:
    (main,) = status(kubectl, name).get("containerStatuses") or [{"state": {}}]
    found = main["state"].get("waiting") or {}
    return found.get("reason", ""), found.get("message", "")


def runs(kubectl: Kubectl, name: str, seconds: float = 60) -> None:
    wait_until(lambda: status(kubectl, name).get("phase") == "Running", seconds, f"{name} runs")


def messages(kubectl: Kubectl, name: str, reason: str) -> list[str]:
    items = kubectl.json("get", "events")["items"]
    return [
        one["message"]
        for one in items
        if one["involvedObject"]["name"] == name and one["reason"] == reason
    ]


def test_a_pull_that_was_cut_goes_on_where_it_ended(kubectl: Kubectl) -> None:
    with Registry() as registry:
        reference = registry.add("cut/app", extra_bytes=NOISE)
        cut = 4 << 20
        # Enough that the runtime's own attempts end and the kubelet tries again.
        registry.cut_after = [cut]
        kubectl("create", "-f", "-", stdin=pod("cut", reference))
        runs(kubectl, "cut", 90)
        assert registry.ranges, "the rest was asked for"
        starts = [int(one.removeprefix("bytes=").split("-")[0]) for one in registry.ranges]
        assert max(starts) >= cut // 2, starts
        wait_until(lambda: messages(kubectl, "cut", "Pulled"), 20, "its Event")
        (text,) = messages(kubectl, "cut", "Pulled")
        assert "including waiting). Image size: " in text


def test_a_closed_registry_wants_the_pods_or_the_nodes_credentials(
    system: System, kubectl: Kubectl
) -> None:
    with Registry(user="me", password="secret") as registry:
        reference = registry.add("closed/app")
        kubectl("create", "-f", "-", stdin=pod("stranger", reference))
        wait_until(
            lambda: waiting(kubectl, "stranger")[0] in ("ErrImagePull", "ImagePullBackOff"),
            30,
            "it is refused",
        )
        assert (
            "authorization failed" in waiting(kubectl, "stranger")[1].lower()
            or "401" in (waiting(kubectl, "stranger")[1])
        )
        words = ["--docker-username=me", "--docker-password=secret"]
        server = f"--docker-server={registry.host}"
        kubectl("create", "secret", "docker-registry", "login", server, *words)
        secret = {"imagePullSecrets": [{"name": "login"}]}
        kubectl("create", "-f", "-", stdin=pod("friend", reference, **secret))
        runs(kubectl, "friend")
        kubectl("delete", "pod", "stranger", "friend", "--wait=true")
        closed = registry.add("closed/other")
        path = system.directory / "credentials.json"
        auth = base64.b64encode(b"me:secret").decode()
        path.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        settings = system.edge_dir / "edge.yaml"
        before = settings.read_text()
        settings.write_text(f"{before}\nregistryCredentials: {path}\n")
        assert system.edge is not None
        system.edge.stop()
        system.start_edge()
        try:
            kubectl("create", "-f", "-", stdin=pod("local", closed))
            runs(kubectl, "local")
        finally:
            settings.write_text(before)


def test_an_image_that_cannot_be_had_is_said_and_others_go_on(kubectl: Kubectl) -> None:
    with Registry() as registry:
        there = registry.add("open/app")
        cases = {
            "absent": (f"{registry.host}/no/such:1", {}),
            "never": (f"{registry.host}/open/other:1", {"imagePullPolicy": "Never"}),
            "invalid": ("Not/A/Name", {}),
            "away": ("127.0.0.1:9/app:1", {}),
        }
        for name, (image, container) in cases.items():
            kubectl("create", "-f", "-", stdin=pod(name, image, container=container))
        kubectl("create", "-f", "-", stdin=pod("fine", there))
        runs(kubectl, "fine", 30)
        wanted = {
            "absent": ("ErrImagePull", "ImagePullBackOff"),
            "never": ("ErrImageNeverPull",),
            "invalid": ("InvalidImageName",),
            "away": ("RegistryUnavailable", "ImagePullBackOff"),
        }
        for name, reasons in wanted.items():
            wait_until(
                lambda name=name, reasons=reasons: waiting(kubectl, name)[0] in reasons,
                30,
                f"{name}: {reasons}",
            )
        wait_until(lambda: waiting(kubectl, "absent")[0] == "ImagePullBackOff", 40, "it backs off")
        assert "not found" in waiting(kubectl, "absent")[1]
        wait_until(lambda: messages(kubectl, "invalid", "InspectFailed"), 20, "its Event")


def test_no_more_images_than_allowed_are_pulled_at_a_time(kubectl: Kubectl) -> None:
    with Registry() as registry:
        registry.bytes_per_second = 4 << 20
        for at in range(5):
            reference = registry.add(f"many/app{at}", extra_bytes=1 << 20)
            kubectl("create", "-f", "-", stdin=pod(f"many-{at}", reference))
        for at in range(5):
            runs(kubectl, f"many-{at}", 60)
        # Each image has at most two layers under way.
        assert registry.most <= 3 * 2


@pytest.mark.parametrize("packed", ["", "gz", "zst"])
def test_an_archive_gives_images_to_a_node_that_sees_no_registry(
    system: System, kubectl: Kubectl, packed: str
) -> None:
    archive = system.directory / f"image{packed}.tar"
    reference = f"never.example/imported{packed}:1"
    system.containerd.ctr("images", "tag", IMAGE, reference)
    system.containerd.ctr("images", "export", str(archive), reference)
    system.containerd.ctr("images", "rm", reference)
    if packed == "gz":
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    elif packed == "zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        subprocess.run(["zstd", "-q", "-f", str(archive), "-o", f"{archive}.zst"], check=True)
        archive = Path(f"{archive}.zst")
    words = ["--dir", str(system.edge_dir)]
    assert f"imported {reference}\n" in system.run_kedge("image", "import", str(archive), *words)
    listed = json.loads(system.run_kedge("image", "list", "--json", *words))
    (mine,) = [one for one in listed if one["name"] == reference]
    assert mine["pinned"]
    name = f"imported{packed}"
    never = {"imagePullPolicy": "Never"}
    kubectl("create", "-f", "-", stdin=pod(name, reference, container=never))
    runs(kubectl, name, 30)
    damaged = system.directory / "damaged.tar"
    damaged.write_bytes(b"no archive" * 100)
    with pytest.raises(subprocess.CalledProcessError):
        system.run_kedge("image", "import", str(damaged), *words)
