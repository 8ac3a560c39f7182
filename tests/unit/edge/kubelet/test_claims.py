# SPDX-License-Identifier: Apache-2.0
"""Volumes of claims, directories of the built-in provisioner, groups, and trust anchors."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet import objects
from kedge.edge.kubelet.volumes import Prepared, VolumeError, Volumes, bundles, ownership
from kedge.edge.kubelet.volumes.local_path import LocalPath
from tests.unit.edge.kubelet.test_volumes import PLACE, Held, Mounts, pod


class Rig:
    def __init__(self, path: Path) -> None:
        self.objects = Held()
        self.local = LocalPath(path / "local-volumes")
        self.volumes = Volumes(
            path / "pods",
            path / "memory",
            lambda: PLACE,
            Mounts(),
            node="n1",
            local_path=self.local,
        )
        labels = {"kubernetes.io/hostname": "n1"}
        self.put("nodes", "n1", {"metadata": {"labels": labels}}, namespace="")

    def put(
        self, resource: str, name: str, obj: dict[str, Any], namespace: str = "default"
    ) -> None:
        obj.setdefault("metadata", {}).setdefault("name", name)
        self.objects.objects[ObjectKey("", resource, namespace, name)] = obj

    def bound(self, source: dict[str, Any], *, host: str = "n1", **spec: Any) -> None:
        """A claim ``data`` that is bound to a volume ``pv``."""
        metadata: dict[str, Any] = {"uid": "c-1"}
        status = {"phase": "Bound"}
        body = {"metadata": metadata, "spec": {"volumeName": "pv"}, "status": status}
        self.put("persistentvolumeclaims", "data", body)
        term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}
        notes = spec.pop("annotations", {})
        volume = {
            "metadata": {"annotations": notes},
            "spec": {"claimRef": {"uid": "c-1"}, "nodeAffinity": affinity, **source, **spec},
        }
        self.put("persistentvolumes", "pv", volume, namespace="")

    def prepare(self, volume: dict[str, Any] | None = None, **security: Any) -> Any:
        volume = volume or {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
        found = asyncio.run(self.volumes.prepare(pod(volume, **security), self.objects))
        return found["v"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


OURS = {"pv.kubernetes.io/provisioned-by": "kedge.io/local-path"}


def test_a_volume_of_the_built_in_provisioner_is_a_directory_of_this_node_and_is_kept(
    rig: Rig,
) -> None:
    rig.bound({"local": {"path": "/elsewhere/pv"}}, annotations=OURS)
    found = rig.prepare()
    assert Path(found.path) == rig.local.path / "pv"
    assert stat.S_IMODE(Path(found.path).stat().st_mode) == 0o777
    (Path(found.path) / "file").write_text("kept")
    asyncio.run(rig.volumes.remove("uid-1"))
    assert (Path(rig.prepare().path) / "file").read_text() == "kept"


def test_a_claim_that_cannot_be_used_says_why(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match='persistentvolumeclaim "data" not found'):
        rig.prepare()
    rig.put("persistentvolumeclaims", "data", {"metadata": {"uid": "c-1"}, "spec": {}})
    with pytest.raises(VolumeError, match='"data" is not bound'):
        rig.prepare()
    rig.bound({"local": {"path": str(tmp_path)}})
    del rig.objects.objects[ObjectKey("", "persistentvolumes", "", "pv")]
    with pytest.raises(VolumeError, match='persistentvolume "pv" not found'):
        rig.prepare()
    rig.bound({"local": {"path": str(tmp_path)}}, host="n2")
    with pytest.raises(VolumeError, match="not for this node"):
        rig.prepare()
    rig.bound({"local": {"path": str(tmp_path)}}, claimRef={"uid": "other"})
    with pytest.raises(VolumeError, match="not bound to claim"):
        rig.prepare()
    rig.bound({"local": {"path": str(tmp_path / "nowhere")}})
    with pytest.raises(VolumeError, match="does not exist"):
        rig.prepare()
    rig.bound({"nfs": {"server": "s", "path": "/"}})
    with pytest.raises(VolumeError, match="nfs is not supported on this node"):
        rig.prepare()


def test_a_claim_of_a_host_path_and_a_read_only_use(rig: Rig, tmp_path: Path) -> None:
    rig.bound({"hostPath": {"path": str(tmp_path), "type": "Directory"}})
    assert rig.prepare() == Prepared(str(tmp_path))
    claim = {"claimName": "data", "readOnly": True}
    assert rig.prepare({"name": "v", "persistentVolumeClaim": claim}).read_only


def test_a_block_volume_must_be_a_device(rig: Rig, tmp_path: Path) -> None:
    rig.bound({"local": {"path": str(tmp_path)}}, volumeMode="Block")
    with pytest.raises(VolumeError, match="wanted a block device"):
        rig.prepare()


def test_an_ephemeral_volume_needs_the_pods_own_claim(rig: Rig, tmp_path: Path) -> None:
    rig.bound({"local": {"path": str(tmp_path)}})
    claim = rig.objects.objects.pop(ObjectKey("", "persistentvolumeclaims", "default", "data"))
    rig.put("persistentvolumeclaims", "web-v", claim)
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}
    with pytest.raises(VolumeError, match="pod is not owner"):
        rig.prepare(volume)
    claim["metadata"]["ownerReferences"] = [{"uid": "uid-1", "controller": True}]
    assert rig.prepare(volume).path == str(tmp_path)


def test_changes_of_claims_volumes_and_bundles_concern_the_pods_that_use_them() -> None:
    source = {"clusterTrustBundle": {"name": "b", "path": "x"}}
    found = objects.references(
        pod(
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "e", "ephemeral": {}},
            {"name": "t", "projected": {"sources": [source]}},
        )
    )
    names = {f"{key.resource}/{key.name}" for key in found}
    assert names == {
        "persistentvolumeclaims/data",
        "persistentvolumeclaims/web-e",
        "persistentvolumes/",
        "volumeattachments/",
        "csidrivers/",
        "nodes/",
        "clustertrustbundles/",
    }


# removing, as the cloud asks


def status() -> dict[str, Any]:
    return {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}}


def asking(*names: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {"volumes.kedge.io/remove": ",".join(names)}}}


def test_what_the_node_is_asked_to_remove_goes_and_is_confirmed(tmp_path: Path) -> None:
    local = LocalPath(tmp_path / "local")
    for name in ("a", "b"):
        (local.directory(name) / "file").write_text("x")
    held = ["kedge.io/local-path/a", "kedge.io/local-path/b"]
    assert local.describe(status())["volumesInUse"] == held
    asyncio.run(local.remove_asked(asking("a", "never-made"), in_use=[]))
    assert local.describe(status())["volumesInUse"] == [
        "kedge.io/local-path/b",
        "kedge.io/local-path-removed/a",
        "kedge.io/local-path-removed/never-made",
    ]
    asyncio.run(local.remove_asked(asking(), in_use=[]))
    assert local.describe(status())["volumesInUse"] == ["kedge.io/local-path/b"]


def test_what_a_container_still_uses_is_not_removed(tmp_path: Path) -> None:
    local = LocalPath(tmp_path / "local")
    path = local.directory("a")
    assert not asyncio.run(local.remove_asked(asking("a"), in_use=[str(path)]))
    assert local.describe(status())["volumesInUse"] == ["kedge.io/local-path/a"]
    assert asyncio.run(local.remove_asked(asking("a"), in_use=[]))


def test_a_removal_that_a_crash_cut_is_finished(tmp_path: Path) -> None:
    local = LocalPath(tmp_path / "local")
    (local.directory("a") / "file").write_text("x")
    (local.path / "a").rename(local.path / ".removing-a")
    again = LocalPath(tmp_path / "local")
    asyncio.run(again.remove_asked(asking("a"), in_use=[]))
    assert list(local.path.iterdir()) == []
    assert again.describe(status())["volumesInUse"] == ["kedge.io/local-path-removed/a"]


@pytest.mark.parametrize("name", ["../x", "/etc", ".."])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    local = LocalPath(tmp_path / "local")
    with pytest.raises(VolumeError, match="wanted a plain name"):
        local.directory(name)
    with pytest.raises(VolumeError, match="wanted a plain name"):
        asyncio.run(local.remove_asked(asking(name), in_use=[]))


def test_the_disks_size_and_what_is_free_are_told_coarsely(tmp_path: Path) -> None:
    found = LocalPath(tmp_path / "not" / "there" / "yet").describe(status())
    size = int(found["capacity"]["kedge.io/local-storage"])
    free = int(found["allocatable"]["kedge.io/local-storage"])
    assert 0 < free <= size
    assert free % max(64 << 20, size >> 7) == 0
    assert "volumesInUse" not in found


# groups


def test_a_group_gets_all_of_a_volume_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o600)
    volume = tmp_path / "volume"
    (volume / "deep").mkdir(parents=True, mode=0o700)
    (volume / "deep" / "file").write_text("x")
    (volume / "deep" / "file").chmod(0o600)
    (volume / "link").symlink_to(outside)
    assert ownership.give(str(volume), 4321, ownership.ALWAYS)
    file = (volume / "deep" / "file").stat()
    assert (file.st_gid, stat.S_IMODE(file.st_mode)) == (4321, 0o660)
    folder = (volume / "deep").stat()
    assert (folder.st_gid, stat.S_IMODE(folder.st_mode) & 0o2770) == (4321, 0o2770)
    assert os.lstat(volume / "link").st_gid == 4321
    assert (outside.stat().st_gid, stat.S_IMODE(outside.stat().st_mode)) != (4321, 0o660)


def test_on_root_mismatch_looks_no_further_than_the_root(tmp_path: Path) -> None:
    assert ownership.give(str(tmp_path), 4321, ownership.ON_ROOT_MISMATCH)
    late = tmp_path / "late"
    late.write_text("x")
    os.chown(late, -1, 0)
    assert not ownership.give(str(tmp_path), 4321, ownership.ON_ROOT_MISMATCH)
    assert late.stat().st_gid == 0
    assert ownership.give(str(tmp_path), 4321, ownership.ALWAYS)
    assert late.stat().st_gid == 4321


def test_a_local_volume_is_given_to_the_pods_group_and_a_host_path_is_not(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "disk"
    path.mkdir()
    rig.bound({"hostPath": {"path": str(path)}})
    rig.prepare(fsGroup=4321)
    assert path.stat().st_gid != 4321
    rig.bound({"local": {"path": str(path)}})
    rig.prepare(fsGroup=4321)
    assert path.stat().st_gid == 4321


# trust anchors

ONE = "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
TWO = "-----BEGIN CERTIFICATE-----\ndHdv\n-----END CERTIFICATE-----\n"


def with_bundles() -> Held:
    held = Held()
    for name, signer, labels, text in (
        ("plain", "", {}, f"a comment\n{ONE}"),
        ("s-1", "example.com/s", {"live": "yes"}, ONE + TWO),
        ("s-2", "example.com/s", {"live": "yes"}, TWO),
        ("s-3", "example.com/s", {"live": "no"}, ONE),
    ):
        spec = {"trustBundle": text, **({"signerName": signer} if signer else {})}
        key = ObjectKey("certificates.k8s.io", "clustertrustbundles", "", name)
        held.objects[key] = {"metadata": {"name": name, "labels": labels}, "spec": spec}
    return held


def test_anchors_are_chosen_by_name_or_by_signer_and_labels_each_once() -> None:
    held = with_bundles()
    assert bundles.anchors({"name": "plain"}, held) == ONE.encode()
    live = {"signerName": "example.com/s", "labelSelector": {"matchLabels": {"live": "yes"}}}
    assert bundles.anchors(live, held) == (ONE + TWO).encode()
    everything = {"signerName": "example.com/s", "labelSelector": {}}
    assert bundles.anchors(everything, held) == (ONE + TWO).encode()


def test_missing_anchors_are_an_error_unless_they_are_optional() -> None:
    held = with_bundles()
    with pytest.raises(VolumeError, match='clustertrustbundle "none" not found'):
        bundles.anchors({"name": "none"}, held)
    with pytest.raises(VolumeError, match='of signer "example'):
        bundles.anchors({"signerName": "example.com/s"}, held)
    assert bundles.anchors({"name": "none", "optional": True}, held) == b""


def test_a_bundle_is_a_file_of_a_projected_volume_and_a_pod_certificate_is_refused(
    rig: Rig,
) -> None:
    rig.objects.objects |= with_bundles().objects
    source = {"clusterTrustBundle": {"name": "plain", "path": "ca/anchors.pem"}}
    found = rig.prepare({"name": "v", "projected": {"sources": [source]}})
    assert (Path(found.path) / "ca" / "anchors.pem").read_text() == ONE
    source = {"podCertificate": {"signerName": "s/x", "keyType": "ED25519"}}
    with pytest.raises(VolumeError, match="nobody can issue one"):
        rig.prepare({"name": "v", "projected": {"sources": [source]}})
