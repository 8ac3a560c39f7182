# SPDX-License-Identifier: Apache-2.0
"""CSI with a driver that is a program of its own and mounts for real; without a container runtime."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kedge import faults
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.csi import figures
from kedge.edge.kubelet.csi.node import CsiNode
from kedge.edge.kubelet.csi.requests import digest
from kedge.edge.kubelet.plugins.plugins import Plugins
from kedge.edge.kubelet.volumes import VolumeError
from kedge.edge.kubelet.volumes.errors import AttachError
from kedge.edge.kubelet.volumes.sources import Request
from kedge.edge.kubelet.volumes.trees import SystemMounter, remove_all
from kedge.runtime import Runtime
from tests.fakes.plugin_protos import Control
from tests.integration.test_device_plugins import Events, NoCDI
from tests.rig import fault_points
from tests.rig.processes import Process, wait_until

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]
DRIVER = "csi.example"
NODE = "edge-1"


class Objects(dict[ObjectKey, dict[str, Any]]):
    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        wanted = (group, resource, namespace)
        return [value for key, value in self.items() if key[:3] == wanted]


class Reports:
    def __init__(self) -> None:
        self.drivers: list[dict[str, Any]] = []
        self.sizes: list[tuple[str, str]] = []

    def claim_size(self, claim: dict[str, Any], size: str) -> None:
        self.sizes.append((claim["metadata"]["name"], size))

    def csi_node(self, drivers: list[dict[str, Any]]) -> None:
        self.drivers = drivers


class Node:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = Control(directory / "control.json")
        self.events, self.reports, self.objects = Events(), Reports(), Objects()
        self.programs: list[Process] = []
        self.data = directory / "data"
        self.data.mkdir()
        self.about(attachRequired=False)

    def about(self, **spec: Any) -> None:
        modes = {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}
        self.objects[ObjectKey("storage.k8s.io", "csidrivers", "", DRIVER)] = {"spec": modes | spec}

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[CsiNode]:
        runtime = Runtime(1)
        anything: Any = (self.directory, self.directory, runtime, NoCDI(), self.events)
        plugins = Plugins(*anything)
        fakes: Any = (self.reports, self.events)
        self.csi = CsiNode(plugins, self.directory / "pods", NODE, *fakes, lambda: None)
        plugins.takers["CSIPlugin"] = lambda: self.csi.drivers
        running = asyncio.get_running_loop().create_task(plugins.run())
        try:
            await asyncio.sleep(0)
            yield self.csi
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await asyncio.to_thread(runtime.close)

    def start_driver(self) -> Process:
        (self.directory / "plugins_registry").mkdir(exist_ok=True)
        socket = self.directory / "plugins_registry" / "csi.sock"
        arguments = [str(socket), DRIVER, str(self.data), str(self.directory / "control.json")]
        program = Process(
            ["-m", "tests.fakes.csi_driver", *arguments], log=self.directory / "driver.log"
        )
        self.programs.append(program)
        return program

    async def registered(self) -> None:
        def is_so() -> bool:
            return self.csi.drivers.get(DRIVER) is not None

        await asyncio.to_thread(wait_until, is_so, 15, "the driver is registered")

    def calls(self) -> list[str]:
        return [one["method"] for one in self.control.calls() if one["method"].startswith("Node")]


@pytest.fixture
def node() -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(prefix="kedge-csi-"))
    made = Node(directory)
    yield made
    for program in made.programs:
        program.kill()
    remove_all(SystemMounter(), directory / "pods")
    remove_all(SystemMounter(), directory / "plugins")
    shutil.rmtree(directory)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": {"containers": []} | spec}


def persistent(
    node: Node,
    of: dict[str, Any],
    *,
    size: str = "1Gi",
    about: dict[str, Any] | None = None,
    **csi: Any,
) -> Request:
    source = {
        "driver": DRIVER,
        "volumeHandle": "v1",
        "fsType": "ext4",
        "volumeAttributes": {"share": "a"},
    } | csi
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": size},
        "mountOptions": ["noatime"],
    }
    volume = {"metadata": {"name": "pv-1"}, "spec": spec | {"csi": source} | (about or {})}
    return Request(of, "data", "csi", source, node.objects, volume)  # type: ignore[arg-type]


async def test_a_volume_is_staged_once_and_published_for_each_pod_and_let_go_in_order(
    node: Node,
) -> None:
    node.about(attachRequired=False, podInfoOnMount=True)
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        assert node.reports.drivers == [
            {
                "name": DRIVER,
                "nodeID": "node-of-driver",
                "topologyKeys": ["topology.example/rack"],
                "allocatable": {"count": 7},
            }
        ]
        assert csi.drivers.annotations() == {
            "csi.volume.kubernetes.io/nodeid": '{"csi.example":"node-of-driver"}'
        }
        first = await csi.volumes.prepare(persistent(node, pod("one")))
        Path(first.path, "kept").write_text("x")
        assert (node.data / "v1" / "kept").read_text() == "x"
        again = await csi.volumes.prepare(persistent(node, pod("one")))
        second = await csi.volumes.prepare(persistent(node, pod("two")))
        assert again == first
        assert Path(second.path, "kept").read_text() == "x"
        assert await csi.volumes.usage("uid-one") == {
            "pv-1": {"bytes_available": 60, "bytes_total": 100, "bytes_used": 40}
        }
        await csi.volumes.remove("uid-one")
        assert Path(second.path, "kept").exists()
        await csi.volumes.remove("uid-two")
        await csi.volumes.remove("uid-two")
    assert node.calls() == [
        "NodeStageVolume", "NodePublishVolume", "NodePublishVolume", "NodeGetVolumeStats",
        "NodeUnpublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume",
    ]  # fmt: skip
    publish = node.control.calls("NodePublishVolume")[0]
    assert publish["volume_context"] == {
        "share": "a",
        "csi.storage.k8s.io/pod.name": "one",
        "csi.storage.k8s.io/pod.namespace": "default",
        "csi.storage.k8s.io/pod.uid": "uid-one",
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "csi.storage.k8s.io/ephemeral": "false",
    }
    assert "noatime" in publish["volume_capability"]
    hashed = digest("v1")
    assert publish["staging_target_path"].endswith(
        f"/plugins/kubernetes.io/csi/{DRIVER}/{hashed}/globalmount"
    )
    assert publish["target_path"].endswith("/pods/uid-one/volumes/kubernetes.io~csi/pv-1/mount")
    assert SystemMounter().below(node.directory) == []
    assert not list((node.directory / "plugins").rglob("vol_data.json"))


async def test_an_inline_volume_is_the_pods_alone_and_read_only_where_it_says(node: Node) -> None:
    node.about(podInfoOnMount=True)
    source = {
        "driver": DRIVER,
        "readOnly": True,
        "nodePublishSecretRef": {"name": "key"},
    }
    secret = {"data": {"password": base64.b64encode(b"hidden").decode()}}
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        asked: Any = Request(pod("one"), "inline", "csi", source, node.objects)  # type: ignore[arg-type]
        with pytest.raises(VolumeError, match='secret "key" not found in namespace "default"'):
            await csi.volumes.prepare(asked)
        node.objects[ObjectKey("", "secrets", "default", "key")] = secret
        found = await csi.volumes.prepare(asked)
        assert found.read_only
        with pytest.raises(OSError, match="Read-only"):
            Path(found.path, "x").write_text("x")
        await csi.volumes.remove("uid-one")
    publish = node.control.calls("NodePublishVolume")[0]
    assert publish["secrets"] == {"password": "hidden"}
    assert publish["volume_context"]["csi.storage.k8s.io/ephemeral"] == "true"
    assert publish["volume_id"] == f"csi-{digest('uid-oneinline')}"
    assert "NodeStageVolume" not in node.calls()


IN_USE = f"kubernetes.io/csi/{DRIVER}^v1"
ATTACHMENT = ObjectKey(
    "storage.k8s.io", "volumeattachments", "", f"csi-{digest('v1' + DRIVER + NODE)}"
)
NODE_KEY = ObjectKey("", "nodes", "", NODE)


async def test_a_driver_that_wants_attaching_is_asked_only_when_the_volume_is_attached(
    node: Node,
) -> None:
    node.about(attachRequired=True)
    attached = {"attached": True, "attachmentMetadata": {"device": "/dev/x"}}
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        assert csi.volumes.in_use() == []
        for attachment, known, why in (
            (None, None, f"no VolumeAttachment {ATTACHMENT.name} yet"),
            ({"metadata": {}, "status": {"attached": False}}, None, "not attached yet"),
            (
                {"metadata": {}, "status": {"attachError": {"message": "disk is busy"}}},
                None,
                "disk is busy",
            ),
            (
                {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": attached},
                {"status": {"volumesInUse": [IN_USE]}},
                "is being deleted",
            ),
            ({"metadata": {}, "status": attached}, {}, "the cloud does not know yet"),
        ):
            for key, value in ((ATTACHMENT, attachment), (NODE_KEY, known)):
                if value is not None:
                    node.objects[key] = value
            with pytest.raises(AttachError, match=why):
                await csi.volumes.prepare(persistent(node, pod("one")))
            assert csi.volumes.in_use() == [IN_USE], "so that the cloud keeps it attached"
        assert node.calls() == []
        node.objects[NODE_KEY] = {"status": {"volumesInUse": [IN_USE]}}
        await csi.volumes.prepare(persistent(node, pod("one")))
        assert csi.volumes.in_use() == [IN_USE]
        await csi.volumes.remove("uid-one")
        assert csi.volumes.in_use() == []
    assert node.control.calls("NodeStageVolume")[0]["publish_context"] == {"device": "/dev/x"}


async def test_an_attached_volume_is_in_use_until_it_is_let_go_also_for_the_next_agent(
    node: Node,
) -> None:
    node.about(attachRequired=True)
    node.objects[ATTACHMENT] = {"metadata": {}, "status": {"attached": True}}
    node.objects[NODE_KEY] = {"status": {"volumesInUse": [IN_USE]}}
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        await csi.volumes.prepare(persistent(node, pod("one")))
        await csi.volumes.prepare(persistent(node, pod("two")))
    async with node.agent() as csi:
        assert csi.volumes.in_use() == [IN_USE]
        await node.registered()
        await csi.volumes.remove("uid-one")
        assert csi.volumes.in_use() == [IN_USE], "the other pod has it"
        node.control.write(faults={"NodeUnstageVolume": "the disk is busy"})
        with pytest.raises(VolumeError, match="the disk is busy"):
            await csi.volumes.remove("uid-two")
        assert csi.volumes.in_use() == [IN_USE], "it is still staged"
        node.control.write(faults={})
        await csi.volumes.remove("uid-two")
        assert csi.volumes.in_use() == []


async def test_after_a_restart_and_without_objects_what_was_mounted_is_used_and_let_go(
    node: Node,
) -> None:
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        before = await csi.volumes.prepare(persistent(node, pod("one")))
    node.programs[0].kill()
    async with node.agent() as csi:
        assert await csi.volumes.prepare(persistent(node, pod("one"))) == before
        with pytest.raises(VolumeError, match="not found in the list of registered CSI drivers"):
            await csi.volumes.remove("uid-one")
        node.start_driver()
        await node.registered()
        node.objects.clear()
        await csi.volumes.remove("uid-one")
    assert SystemMounter().below(node.directory) == []
    assert node.calls().count("NodeStageVolume") == 1


async def test_after_a_reboot_a_volume_is_mounted_anew_and_a_gone_pods_is_just_forgotten(
    node: Node,
) -> None:
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        await csi.volumes.prepare(persistent(node, pod("one")))
        await csi.volumes.prepare(persistent(node, pod("two"), volumeHandle="v2"))
    for point in SystemMounter().below(node.directory):
        SystemMounter().unmount(point)
    node.programs[0].kill()
    async with node.agent() as csi:
        await csi.volumes.remove("uid-two")
        with pytest.raises(VolumeError, match="not found in the list"):
            await csi.volumes.prepare(persistent(node, pod("one")))
        node.start_driver()
        await node.registered()
        found = await csi.volumes.prepare(persistent(node, pod("one")))
        assert SystemMounter().below(Path(found.path))
        await csi.volumes.remove("uid-one")
    assert not list(node.directory.rglob("vol_data.json"))


async def test_what_a_crash_left_staged_for_nobody_is_unstaged_when_its_driver_comes(
    node: Node,
) -> None:
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        await csi.volumes.prepare(persistent(node, pod("one")))
    published = node.directory / "pods" / "uid-one"
    remove_all(SystemMounter(), published)
    async with node.agent():
        await node.registered()
        await asyncio.to_thread(
            wait_until, lambda: "NodeUnstageVolume" in node.calls(), 15, "it is unstaged"
        )
        await asyncio.sleep(0.2)
    assert not list(node.directory.rglob("vol_data.json"))


# devices and groups


async def test_a_block_volume_is_a_device_and_comes_back_after_a_reboot(node: Node) -> None:
    about = {"volumeMode": "Block"}
    grouped = {"securityContext": {"fsGroup": 4321}}
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        asked = persistent(node, pod("one", **grouped), about=about)
        found = await csi.volumes.prepare(asked)
        assert found.is_block
        assert Path(found.path).is_block_device()
        assert Path(found.path).stat().st_gid != 4321
        Path(found.path).write_bytes(b"kept")
        assert await csi.volumes.prepare(asked) == found
        for point in SystemMounter().below(node.directory):
            SystemMounter().unmount(point)
        assert await csi.volumes.prepare(asked) == found
        assert Path(found.path).read_bytes()[:4] == b"kept"
        await csi.volumes.remove("uid-one")
    for method in ("NodeStageVolume", "NodePublishVolume"):
        told = node.control.calls(method)[0]["volume_capability"]
        assert "block" in told
        assert "mount" not in told
    assert SystemMounter().below(node.directory) == []
    assert not list(node.directory.rglob("vol_data.json"))


async def test_a_driver_that_leaves_no_device_is_named(node: Node) -> None:
    node.control.write(block=False)
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        asked = persistent(node, pod("one"), about={"volumeMode": "Block"})
        with pytest.raises(VolumeError, match="NodePublishVolume: wanted a block device: /"):
            await csi.volumes.prepare(asked)
        await csi.volumes.remove("uid-one")
    assert not list(node.directory.rglob("vol_data.json"))


GIVEN, NOT_GIVEN = True, False


@pytest.mark.parametrize(
    ("policy", "modes", "fs_type", "wanted"),
    [
        ("File", ["ReadWriteMany"], "", GIVEN),
        ("None", ["ReadWriteOnce"], "ext4", NOT_GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteOnce"], "ext4", GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadOnlyMany", "ReadWriteOnce"], "ext4", GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteOncePod"], "ext4", GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteOnce"], "", NOT_GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteMany"], "ext4", NOT_GIVEN),
        ("", ["ReadWriteOnce"], "ext4", GIVEN),
    ],
)
async def test_files_are_given_to_the_pods_group_as_the_driver_says(
    node: Node, policy: str, modes: list[str], fs_type: str, wanted: bool
) -> None:
    node.about(attachRequired=False, **({"fsGroupPolicy": policy} if policy else {}))
    (node.data / "v1").mkdir()
    (node.data / "v1" / "file").write_text("x")
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        owner = pod("one", securityContext={"fsGroup": 4321})
        asked = persistent(node, owner, about={"accessModes": modes}, fsType=fs_type)
        found = await csi.volumes.prepare(asked)
        groups = {one.stat().st_gid for one in (Path(found.path), Path(found.path, "file"))}
        assert groups == ({4321} if wanted else {os.getgid()})
        await csi.volumes.remove("uid-one")
    told = node.control.calls("NodePublishVolume")[0]["volume_capability"]
    assert "volume_mount_group" not in told


async def test_a_driver_that_mounts_for_a_group_is_told_it_and_nothing_is_changed(
    node: Node,
) -> None:
    node.about(attachRequired=False, fsGroupPolicy="File")
    node.control.write(capabilities=[1, 6])
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        owner = pod("one", securityContext={"fsGroup": 4321})
        found = await csi.volumes.prepare(persistent(node, owner))
        assert Path(found.path).stat().st_gid == os.getgid()
        await csi.volumes.remove("uid-one")
    for method in ("NodeStageVolume", "NodePublishVolume"):
        told = node.control.calls(method)[0]["volume_capability"]
        assert 'volume_mount_group: "4321"' in told


async def test_a_volume_that_is_only_read_is_not_given_away(node: Node) -> None:
    node.about(attachRequired=False, fsGroupPolicy="File")
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        owner = pod("one", securityContext={"fsGroup": 4321})
        found = await csi.volumes.prepare(persistent(node, owner, readOnly=True))
        assert Path(found.path).stat().st_gid == os.getgid()
        await csi.volumes.remove("uid-one")


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
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
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
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        await csi.volumes.prepare(growing(node, pod("one")))
        await csi.volumes.remove("uid-one")
    assert node.calls()[:3] == ["NodeStageVolume", "NodePublishVolume", "NodeExpandVolume"]
    assert node.reports.sizes == [("data", "2Gi")]


async def test_a_driver_that_cannot_grow_a_volume_yet_is_asked_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.source.GROW_AGAIN_SECONDS", 0.1)
    node.control.write(faults={"NodeExpandVolume": "the file system is busy"})
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        await csi.volumes.prepare(growing(node, pod("one")))
        assert [one for one, _ in node.events.said] == ["VolumeResizeFailed"]
        assert node.reports.sizes == []
        node.control.write(faults={})
        await asyncio.to_thread(wait_until, lambda: node.reports.sizes, 15, "it has grown")
        await csi.volumes.remove("uid-one")


async def test_a_driver_without_growing_on_nodes_has_nothing_to_do_there(node: Node) -> None:
    node.control.write(capabilities=[1])
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        await csi.volumes.prepare(growing(node, pod("one")))
        await csi.volumes.remove("uid-one")
    assert "NodeExpandVolume" not in node.calls()
    assert node.reports.sizes == [("data", "2Gi")]


# tokens, and publishing again

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
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
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
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
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
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
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
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        asked = persistent(node, pod("one"))
        await csi.volumes.prepare(asked)
        csi.volumes.refresh(asked)
        await asyncio.sleep(0.5)
        await csi.volumes.remove("uid-one")
    assert node.calls().count("NodePublishVolume") == 1


async def until_removed(csi: CsiNode, uid: str) -> None:
    while True:
        try:
            await csi.volumes.remove(uid)
        except VolumeError:
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("method", ["NodeStageVolume", "NodePublishVolume"])
async def test_a_driver_that_fails_or_dies_at_a_step_is_asked_again_and_leaves_nothing(
    node: Node, method: str
) -> None:
    node.control.write(faults={method: "the disk is on fire"})
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        with pytest.raises(VolumeError, match=r"rpc error from csi\.example: the disk is on fire"):
            await csi.volumes.prepare(persistent(node, pod("one")))
        node.control.write(faults={method: "die"})
        with pytest.raises(VolumeError, match=r"rpc error from csi\.example"):
            await csi.volumes.prepare(persistent(node, pod("one")))
        node.control.write(faults={})
        node.start_driver()
        await asyncio.wait_for(until_removed(csi, "uid-one"), 15)
    assert SystemMounter().below(node.directory) == []
    assert not list(node.directory.rglob("vol_data.json"))


class Crash(BaseException):
    """The agent ends here."""


@pytest.mark.parametrize("point", [one for one in fault_points.names() if one.startswith("csi.")])
async def test_an_agent_that_dies_at_any_step_leaves_nothing_that_the_next_one_does_not_undo(
    node: Node, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    reached = []

    def crash(name: str) -> None:
        if name == point and not reached:
            reached.append(name)
            raise Crash

    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        monkeypatch.setattr(faults, "reached", crash)
        try:
            await csi.volumes.prepare(persistent(node, pod("one")))
            await csi.volumes.remove("uid-one")
        except Crash:
            pass
    assert reached == [point]
    async with node.agent() as csi:
        await node.registered()
        found = await csi.volumes.prepare(persistent(node, pod("one")))
        assert SystemMounter().below(Path(found.path))
        await csi.volumes.remove("uid-one")
        await asyncio.sleep(0.2)
    assert SystemMounter().below(node.directory) == []
    assert not list(node.directory.rglob("vol_data.json"))


async def test_a_driver_that_hangs_holds_up_no_other_volume(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.source.CALL_SECONDS", 2.0)
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
        node.control.write(faults={"NodeStageVolume": "hang"})
        hanging = asyncio.ensure_future(csi.volumes.prepare(persistent(node, pod("one"))))
        await asyncio.to_thread(
            wait_until, lambda: "NodeStageVolume" in node.calls(), 15, "it hangs"
        )
        node.control.write(faults={})
        other = persistent(node, pod("two"), volumeHandle="v2")
        await asyncio.wait_for(csi.volumes.prepare(other), 1.5)
        with pytest.raises(VolumeError, match="no answer within 2000 ms"):
            await hanging
        await csi.volumes.remove("uid-one")
        await csi.volumes.remove("uid-two")


async def test_figures_of_a_driver_that_hangs_are_left_out_in_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.figures.SECONDS", 0.5)
    async with node.agent() as csi:
        node.start_driver()
        await node.registered()
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


async def test_a_version_that_is_not_spoken_is_refused_and_the_driver_is_told(node: Node) -> None:
    node.control.write(versions=["0.3.0"])
    async with node.agent():
        node.start_driver()
        await asyncio.to_thread(wait_until, lambda: node.control.calls("Notify"), 15, "an answer")
    told = node.control.calls("Notify")[0]
    assert not told["registered"]
    assert "wanted a version 1.x of CSI: 0.3.0" in told["error"]
