# SPDX-License-Identifier: Apache-2.0
"""Backups of a stopped cluster and of a store that somebody has open, and what restoring refuses."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import socket
import threading
from contextlib import contextmanager

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster import copying, credentials, restoring
from kedge.cluster.copying import Copies
from kedge.ctl import backup, restore
from kedge.ctl.failure import Failure
from kedge.errors import Disconnected, Full, Gone, Invalid
from kedge.store import Store, put

POD = ObjectKey("", "pods", "default", "web")


def fill(store, count, first=0):
    for number in range(first, first + count):
        key = ObjectKey("", "pods", "default", f"p{number}")
        store.commit_now([put(key, json.dumps({"metadata": {"name": key.name}}).encode())])


@pytest.fixture
def cluster(tmp_path):
    """A stopped cluster of five pods."""
    directory = tmp_path / "up" / "cluster"
    credentials.prepare(directory / "pki", [])
    store = Store.open(directory / "store", mode="primary")
    fill(store, 5)
    store.close()
    return directory


@contextmanager
def serving(store, directory):
    """The socket of a control plane, in a thread."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()

    async def main():
        copies = asyncio.ensure_future(Copies(store, directory).run())
        ready.set()
        await stop.wait()
        copies.cancel()
        await asyncio.gather(copies, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def names(directory):
    store = Store.open(directory / "cluster" / "store", mode="primary")
    try:
        return {item.key.name for item in store.list("", "pods").items}
    finally:
        store.close()


def test_a_stopped_cluster_is_backed_up_and_restored(cluster, tmp_path):
    file = tmp_path / "b.kedge"
    made = backup.run(file, cluster.parent)
    assert (made.manifest.objects, made.manifest.revision) == (5, 5)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    found = restore.run(file, tmp_path / "new")
    assert names(tmp_path / "new") == {f"p{number}" for number in range(5)}
    for name in ("ca.crt", "ca.key", "sa.key"):
        restored = tmp_path / "new" / "cluster" / "pki" / name
        assert restored.read_bytes() == (cluster / "pki" / name).read_bytes()
        assert restored.stat().st_mode & 0o077 == 0
    assert found.revision >= 5 + restoring.LEAP


def test_the_cluster_of_python_m_kedge_cluster_is_found_too(cluster, tmp_path):
    assert backup.run(tmp_path / "b", cluster).manifest.objects == 5
    with pytest.raises(Failure, match="no cluster in"):
        backup.run(tmp_path / "b", tmp_path / "nothing")


def test_a_store_that_is_open_is_copied_by_who_has_it(cluster, tmp_path):
    store = Store.open(cluster / "store", mode="primary")
    try:
        with serving(store, cluster):
            fill(store, 3, first=5)
            assert (cluster / copying.NAME).stat().st_mode & 0o777 == 0o600
            assert backup.run(tmp_path / "b", cluster.parent).manifest.revision == 8
            fill(store, 1, first=8)
            assert backup.run(tmp_path / "b", cluster.parent).manifest.objects == 9
        with pytest.raises(Failure, match="in use, and its owner does not answer"):
            backup.run(tmp_path / "b", cluster.parent)
    finally:
        store.close()
    restore.run(tmp_path / "b", tmp_path / "new")
    assert len(names(tmp_path / "new")) == 9


def test_the_socket_takes_one_empty_file_open_for_writing_and_nothing_else(cluster, tmp_path):
    (tmp_path / "full").write_text("x")
    (tmp_path / "empty").write_text("")
    store = Store.open(cluster / "store", mode="primary")
    try:
        with serving(store, cluster):
            for path, flags in ((tmp_path / "full", os.O_RDWR), (tmp_path / "empty", os.O_RDONLY)):
                descriptor = os.open(path, flags)
                with pytest.raises(Disconnected, match="empty regular file"):
                    copying.request(cluster, descriptor)
                os.close(descriptor)
            reader, writer = os.pipe()
            with pytest.raises(Disconnected, match="empty regular file"):
                copying.request(cluster, writer)
            with socket.socket(socket.AF_UNIX) as rude:
                rude.connect(str(cluster / copying.NAME))
                rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert json.loads(rude.recv(4096))["reason"] == Invalid.reason
            os.close(reader)
            os.close(writer)
            assert backup.run(tmp_path / "b", cluster.parent).manifest.objects == 5
    finally:
        store.close()
    assert (tmp_path / "full").read_text() == "x"


def test_revisions_go_on_above_all_that_clients_may_know(cluster, tmp_path):
    backup.run(tmp_path / "b", cluster.parent)
    first = restore.run(tmp_path / "b", tmp_path / "one").revision
    store = Store.open(tmp_path / "one" / "cluster" / "store", mode="primary")
    try:
        for known in (0, 4, 5, 6, 1_000_000):
            with pytest.raises(Gone):
                store.watch(from_revision=known)
        mark = json.loads(store.get(restoring.MARK).value)
        assert mark["data"]["revision"] == "5"
        fill(store, 50)
        last = store.revision
    finally:
        store.close()
    assert first < last
    second = restore.run(tmp_path / "b", tmp_path / "two").revision
    assert second > first


def test_a_cluster_that_is_there_is_never_touched(cluster, tmp_path):
    backup.run(tmp_path / "b", cluster.parent)
    before = sorted((path, path.stat().st_mtime_ns) for path in cluster.rglob("*"))
    with pytest.raises(Failure, match="not empty") as caught:
        restore.run(tmp_path / "b", cluster.parent)
    assert "another --dir" in caught.value.hint
    assert sorted((path, path.stat().st_mtime_ns) for path in cluster.rglob("*")) == before
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cluster").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="not empty"):
        restore.run(tmp_path / "b", tmp_path / "linked")


def test_a_directory_in_which_kedge_runs_is_refused(cluster, tmp_path):
    backup.run(tmp_path / "b", cluster.parent)
    target = tmp_path / "new"
    target.mkdir()
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Failure, match="a kedge runs in"):
            restore.run(tmp_path / "b", target)
    (target / "edge").mkdir()
    restore.run(tmp_path / "b", target)
    assert (target / "edge").is_dir()


def test_a_bad_backup_leaves_nothing(cluster, tmp_path):
    file = tmp_path / "b"
    backup.run(file, cluster.parent)
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(Failure, match="it was cut") as caught:
        restore.run(file, tmp_path / "new")
    assert caught.value.reason == "BadBackup"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]
    with pytest.raises(Failure, match="No such file"):
        restore.run(tmp_path / "absent", tmp_path / "new")


def test_keys_that_do_not_fit_are_refused(cluster, tmp_path):
    credentials.prepare(tmp_path / "other", [])
    (cluster / "pki" / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    backup.run(tmp_path / "b", cluster.parent)
    with pytest.raises(Failure, match=r"ca.key does not belong to pki/ca.crt"):
        restore.run(tmp_path / "b", tmp_path / "new")


def test_a_damaged_store_is_not_backed_up_and_the_old_backup_stays(cluster, tmp_path):
    file = tmp_path / "b"
    backup.run(file, cluster.parent)
    before = file.read_bytes()
    data = cluster / "store" / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(Failure, match="damaged"):
        backup.run(file, cluster.parent)
    assert file.read_bytes() == before


def test_a_cluster_without_its_keys_is_said_to_be_without(cluster, tmp_path):
    (cluster / "pki" / "sa.key").unlink()
    with pytest.raises(Failure, match=r"sa.key: No such file"):
        backup.run(tmp_path / "b", cluster.parent)
    assert not (tmp_path / "b").exists()


def test_a_full_disk_leaves_the_old_backup(cluster, tmp_path, monkeypatch):
    file = tmp_path / "b"
    backup.run(file, cluster.parent)
    before = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup.backup_file, "write", full)
    with pytest.raises(Failure, match="No space left") as caught:
        backup.run(file, cluster.parent)
    assert "make room" in caught.value.hint
    monkeypatch.setattr(copying, "request", lambda *_: (_ for _ in ()).throw(Full("no space")))
    with pytest.raises(Failure, match="no space"):
        backup.run(file, cluster.parent)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["up", "b"] or not list(
        tmp_path.glob("*.new")
    )


def test_one_backup_at_a_time_writes_a_file_and_what_a_killed_one_left_goes(cluster, tmp_path):
    left = tmp_path / ".b.part"
    left.mkdir()
    (left / "data.mdb").write_text("half")
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Failure, match="another backup writes"):
        backup.run(tmp_path / "b", cluster.parent)
    assert left.exists()
    os.close(descriptor)
    backup.run(tmp_path / "b", cluster.parent)
    assert not left.exists()
