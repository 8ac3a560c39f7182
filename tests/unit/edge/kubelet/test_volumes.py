# SPDX-License-Identifier: Apache-2.0
"""Volumes: what is rendered, how it is swapped in, what is made and removed."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.container.environment import Place
from kedge.edge.kubelet.volumes import VolumeError, Volumes, swap
from kedge.edge.kubelet.volumes.payloads import File

PLACE = Place("node-1", ("10.0.0.9",), ("10.1.0.2",), {"cpu": "2", "memory": "1Gi"})


class Held:
    """Objects of a node's view."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, dict[str, Any]] = {}

    def get(self, key: ObjectKey) -> dict[str, Any] | None:
        return self.objects.get(key)

    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        wanted = (group, resource, namespace)
        return [
            one
            for key, one in self.objects.items()
            if (key.group, key.resource, key.namespace) == wanted
        ]

    def config_map(
        self, name: str, data: dict[str, str], binary: dict[str, str] | None = None
    ) -> None:
        value = {"metadata": {"name": name}, "data": data, "binaryData": binary or {}}
        self.objects[ObjectKey("", "configmaps", "default", name)] = value

    def secret(self, name: str, data: dict[str, bytes]) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.objects[ObjectKey("", "secrets", "default", name)] = {
            "metadata": {"name": name},
            "data": encoded,
        }

    def token(
        self, text: str, *, uid: str = "uid-1", audience: str = "", seconds: int = 3600
    ) -> None:
        name = f"web.{audience}{seconds}"
        self.objects[ObjectKey("kedge.io", "serviceaccounttokens", "default", name)] = {
            "spec": {"podUID": uid, "audience": audience, "expirationSeconds": seconds},
            "status": {"token": text},
        }


class Mounts:
    """Mounts in memory."""

    def __init__(self) -> None:
        self.points: dict[str, int] = {}

    def tmpfs(self, path: Path, size_bytes: int, mode: int) -> None:
        self.points[str(path.resolve())] = size_bytes

    def hugetlbfs(self, path: Path, page_size: str, size_bytes: int) -> None:
        self.points[str(path.resolve())] = size_bytes

    def bind(self, source: str, path: Path) -> None:
        raise AssertionError(f"nothing here binds: {source} at {path}")

    def unmount(self, path: str) -> None:
        del self.points[path]

    def below(self, directory: Path) -> list[str]:
        top = str(directory.resolve())
        found = [one for one in self.points if one == top or one.startswith(top + "/")]
        return sorted(found, key=len, reverse=True)


class Rig:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = Held()
        self.mounts = Mounts()
        self.volumes = Volumes(path / "pods", path / "memory", lambda: PLACE, self.mounts)

    def prepare(self, *volumes: dict[str, Any], **security: Any) -> dict[str, Path]:
        found = asyncio.run(self.volumes.prepare(pod(*volumes, **security), self.objects))
        return {name: Path(one.path) for name, one in found.items()}

    def remove(self, uid: str) -> None:
        asyncio.run(self.volumes.remove(uid))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def pod(*volumes: dict[str, Any], **security: Any) -> dict[str, Any]:
    container = {"name": "main", "resources": {"limits": {"memory": "64Mi"}}}
    return {
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": "uid-1",
            "labels": {"b": 'x"y', "a": "1"},
        },
        "spec": {"containers": [container], "volumes": list(volumes), "securityContext": security},
    }


def config(name: str = "v", **source: Any) -> dict[str, Any]:
    return {"name": name, "configMap": {"name": "conf", **source}}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_config_map_becomes_files_with_the_default_mode(rig: Rig) -> None:
    rig.objects.config_map(
        "conf", {"a.txt": "one"}, {"b.bin": base64.b64encode(b"\xff\x00").decode()}
    )
    where = rig.prepare(config(defaultMode=0o640))["v"]
    assert (where / "a.txt").read_text() == "one"
    assert (where / "b.bin").read_bytes() == b"\xff\x00"
    assert mode_of(where / "a.txt") == 0o640
    assert str((where / "a.txt").readlink()) == "..data/a.txt"


def test_items_choose_keys_paths_and_modes(rig: Rig) -> None:
    rig.objects.config_map("conf", {"a": "one", "b": "two"})
    where = rig.prepare(config(items=[{"key": "a", "path": "deep/er/a.txt", "mode": 0o400}]))["v"]
    assert (where / "deep/er/a.txt").read_text() == "one"
    assert mode_of(where / "deep/er/a.txt") == 0o400
    assert {one.name for one in where.iterdir() if not one.name.startswith("..")} == {"deep"}


def test_a_missing_object_names_volume_and_object(rig: Rig) -> None:
    with pytest.raises(VolumeError, match='for volume "v" : configmap "conf" not found'):
        rig.prepare(config())


def test_a_missing_key_names_the_key(rig: Rig) -> None:
    rig.objects.config_map("conf", {})
    with pytest.raises(VolumeError, match='configmap "conf" references non-existent key: a'):
        rig.prepare(config(items=[{"key": "a", "path": "a"}]))


def test_what_is_optional_may_be_missing(rig: Rig) -> None:
    where = rig.prepare(config(optional=True))["v"]
    assert [one for one in where.iterdir() if not one.name.startswith("..")] == []
    rig.objects.config_map("conf", {"b": "2"})
    items = [{"key": "a", "path": "a"}, {"key": "b", "path": "b"}]
    assert (rig.prepare(config(optional=True, items=items))["v"] / "b").read_text() == "2"


@pytest.mark.parametrize("path", ["../up", "/etc/x", "a/../../x", "..data", "a//b", ""])
def test_a_path_that_leaves_the_volume_is_refused(rig: Rig, path: str) -> None:
    rig.objects.config_map("conf", {"a": "one"})
    with pytest.raises(VolumeError, match="wanted a relative path inside the volume"):
        rig.prepare(config(items=[{"key": "a", "path": path}]))


def test_a_secret_lies_in_memory_and_is_decoded(rig: Rig) -> None:
    rig.objects.secret("s", {"password": b"hunter2"})
    where = rig.prepare({"name": "v", "secret": {"secretName": "s"}})["v"]
    assert (where / "password").read_bytes() == b"hunter2"
    assert rig.mounts.below(where.parent.parent) == [str(rig.path / "memory")]
    assert where.is_relative_to(rig.path / "memory")


def test_one_tmpfs_serves_all_pods_and_a_restarted_agent(rig: Rig) -> None:
    rig.objects.config_map("conf", {"a": "one"})
    rig.prepare(config("v"), config("w"))
    again = Volumes(rig.path / "pods", rig.path / "memory", lambda: PLACE, rig.mounts)
    asyncio.run(again.prepare(pod(config("v")), rig.objects))
    assert list(rig.mounts.points) == [str(rig.path / "memory")]


def test_the_tmpfs_goes_with_an_agent_that_leaves_no_volumes_and_stays_with_one_that_does(
    rig: Rig,
) -> None:
    rig.volumes.close()
    rig.objects.secret("s", {"k": b"1"})
    rig.prepare({"name": "s", "secret": {"secretName": "s"}})
    rig.volumes.close()
    assert len(rig.mounts.points) == 1
    rig.remove("uid-1")
    rig.volumes.close()
    assert not rig.mounts.points
    assert not (rig.path / "memory").exists()
    rig.prepare({"name": "s", "secret": {"secretName": "s"}})
    assert len(rig.mounts.points) == 1


def test_a_refresh_swaps_all_files_at_once_and_keeps_nothing_old(rig: Rig) -> None:
    rig.objects.config_map("conf", {"a": "1", "gone": "x"})
    where = rig.prepare(config())["v"]
    before = str((where / "..data").readlink())
    rig.objects.config_map("conf", {"a": "2", "new": "y"})
    rig.volumes.refresh(pod(config()), rig.objects)
    after = str((where / "..data").readlink())
    assert before != after
    assert (where / "a").read_text() == "2"
    assert {one.name for one in where.iterdir()} == {"..data", after, "a", "new"}


def test_nothing_is_written_when_nothing_changed(rig: Rig) -> None:
    rig.objects.config_map("conf", {"a": "1"})
    where = rig.prepare(config())["v"]
    before = str((where / "..data").readlink())
    rig.volumes.refresh(pod(config()), rig.objects)
    rig.prepare(config())
    assert str((where / "..data").readlink()) == before


def test_a_refresh_without_its_object_keeps_the_files_and_tries_the_others(rig: Rig) -> None:
    rig.objects.config_map("conf", {"a": "1"})
    rig.objects.config_map("other", {"b": "1"})
    volumes = (config("v"), {"name": "w", "configMap": {"name": "other"}})
    where = rig.prepare(*volumes)
    del rig.objects.objects[ObjectKey("", "configmaps", "default", "conf")]
    rig.objects.config_map("other", {"b": "2"})
    with pytest.raises(VolumeError, match='"conf" not found'):
        rig.volumes.refresh(pod(*volumes), rig.objects)
    assert (where["v"] / "a").read_text() == "1"
    assert (where["w"] / "b").read_text() == "2"


def test_a_reader_sees_old_or_new_files_whatever_step_a_crash_cut(tmp_path: Path) -> None:
    swap.write(tmp_path, {"a": File(b"1", 0o644), "b": File(b"1", 0o644)})
    (tmp_path / "..2000_01_01_00_00_00.dead").mkdir()
    (tmp_path / "..2000_01_01_00_00_00.dead" / "a").write_text("2")
    (tmp_path / "..data_tmp").symlink_to("..2000_01_01_00_00_00.dead")
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"1", b"1"]
    swap.write(tmp_path, {"a": File(b"2", 0o644), "b": File(b"2", 0o644)})
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"2", b"2"]
    assert len(list(tmp_path.glob("..2*"))) == 1


def test_a_disk_that_is_full_keeps_the_old_files_and_gets_no_fuller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap.write(tmp_path, {"a": File(b"1", 0o644)})
    before = sorted(one.name for one in tmp_path.iterdir())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(swap.os, "fchmod", full)
        with pytest.raises(OSError, match="No space left"):
            swap.write(tmp_path, {"a": File(b"2", 0o644)})
    assert sorted(one.name for one in tmp_path.iterdir()) == before
    assert (tmp_path / "a").read_bytes() == b"1"


def projected(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "v", "projected": {"sources": list(sources), **more}}


def test_the_volume_of_a_service_account_has_token_certificate_and_namespace(rig: Rig) -> None:
    rig.objects.config_map("kube-root-ca.crt", {"ca.crt": "PEM"})
    rig.objects.token("abc")
    rig.objects.token("wrong", audience="vault")
    rig.objects.token("not mine", uid="uid-2", seconds=1)
    where = rig.prepare(
        projected(
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        )
    )["v"]
    assert {one: (where / one).read_text() for one in ("token", "ca.crt", "namespace")} == {
        "token": "abc",
        "ca.crt": "PEM",
        "namespace": "default",
    }
    assert mode_of(where / "token") == 0o644


def test_a_token_that_has_not_come_is_waited_for(rig: Rig) -> None:
    with pytest.raises(VolumeError, match='for audience "vault" has not come'):
        rig.prepare(projected({"serviceAccountToken": {"path": "t", "audience": "vault"}}))


def test_a_token_of_one_user_is_that_users_alone(rig: Rig) -> None:
    rig.objects.token("abc")
    where = rig.prepare(projected({"serviceAccountToken": {"path": "token"}}), runAsUser=1234)["v"]
    found = (where / "token").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (1234, 0o600)


def test_a_group_may_read_its_files_and_write_its_empty_directory(rig: Rig) -> None:
    rig.objects.token("abc")
    volumes = (projected({"serviceAccountToken": {"path": "token"}}), {"name": "e", "emptyDir": {}})
    where = rig.prepare(*volumes, fsGroup=4321)
    token = (where["v"] / "token").stat()
    assert (token.st_gid, stat.S_IMODE(token.st_mode)) == (4321, 0o640)
    empty = where["e"].stat()
    assert (empty.st_gid, stat.S_IMODE(empty.st_mode)) == (4321, 0o2777)


def test_the_downward_api_has_labels_and_resources(rig: Rig) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {
            "path": "mem",
            "resourceFieldRef": {
                "containerName": "main",
                "resource": "limits.memory",
                "divisor": "1Mi",
            },
        },
    ]
    where = rig.prepare({"name": "v", "downwardAPI": {"items": items}})["v"]
    assert (where / "labels").read_text() == 'a="1"\nb="x\\"y"'
    assert (where / "mem").read_text() == "64"


def test_an_empty_directory_is_for_everyone_and_survives_a_second_prepare(rig: Rig) -> None:
    where = rig.prepare({"name": "e", "emptyDir": {}})["e"]
    assert mode_of(where) == 0o777
    (where / "kept").write_text("x")
    assert (rig.prepare({"name": "e", "emptyDir": {}})["e"] / "kept").read_text() == "x"


def test_an_empty_directory_in_memory_has_its_own_mount_of_the_size_asked(rig: Rig) -> None:
    volume = {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}
    where = rig.prepare(volume)["e"]
    rig.prepare(volume)
    assert rig.mounts.points == {str(where): 8 << 20}


def test_removal_unmounts_first_and_follows_no_link(rig: Rig, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    rig.objects.config_map("conf", {"a": "1"})
    volumes = (
        config(),
        {"name": "e", "emptyDir": {"medium": "Memory"}},
        {"name": "d", "emptyDir": {}},
    )
    where = rig.prepare(*volumes)
    (where["d"] / "link").symlink_to(outside)
    (where["d"] / "sub").mkdir()
    (where["d"] / "sub" / "file").write_text("x")
    rig.remove("uid-1")
    rig.remove("uid-1")
    assert (outside / "precious").exists()
    assert not any(one.exists() for one in where.values())
    assert list(rig.mounts.points) == [str(rig.path / "memory")]


def test_nothing_is_removed_while_something_is_still_mounted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = rig.prepare({"name": "e", "emptyDir": {"medium": "Memory"}})["e"]
    monkeypatch.setattr(rig.mounts, "unmount", lambda path: None)
    with pytest.raises(VolumeError, match="still mounted"):
        rig.remove("uid-1")
    assert where.exists()


@pytest.mark.parametrize("uid", ["", "..", "a/b", "../../etc"])
def test_a_uid_that_is_no_plain_name_is_refused(rig: Rig, uid: str) -> None:
    with pytest.raises(VolumeError, match="plain name"):
        rig.remove(uid)


def host(path: Path, kind: str = "") -> dict[str, Any]:
    return {"name": "h", "hostPath": {"path": str(path), "type": kind}}


def test_a_host_path_is_made_when_its_type_says_so(rig: Rig, tmp_path: Path) -> None:
    assert rig.prepare(host(tmp_path / "d/e", "DirectoryOrCreate"))["h"].is_dir()
    assert rig.prepare(host(tmp_path / "f", "FileOrCreate"))["h"].is_file()
    assert rig.prepare(host(tmp_path / "absent"))["h"] == tmp_path / "absent"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Directory", "is not a directory"),
        ("Socket", "is not a socket"),
        ("CharDevice", "is not a character device"),
        ("BlockDevice", "is not a block device"),
        ("Odd", "wanted one of Directory, .*: Odd"),
    ],
)
def test_a_host_path_of_another_type_is_refused(
    rig: Rig, tmp_path: Path, kind: str, message: str
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VolumeError, match=message):
        rig.prepare(host(tmp_path / "file", kind))


def test_sockets_and_devices_pass_their_checks(rig: Rig, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        rig.prepare(host(tmp_path / "s", "Socket"))
    rig.prepare(host(Path("/dev/null"), "CharDevice"))


def test_what_this_node_cannot_mount_is_named(rig: Rig) -> None:
    with pytest.raises(VolumeError, match='volume "v" : nfs is not supported on this node'):
        rig.prepare({"name": "v", "nfs": {"server": "x", "path": "/"}})
