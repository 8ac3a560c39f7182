# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a cluster's directory is said at the start, with a way on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import lmdb
import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster import app, checks, credentials
from kedge.errors import CertificateError, ConfigError, Full
from kedge.hub import certificates
from kedge.store import Store, put

NODE = ObjectKey("", "nodes", "", "edge-1")


@pytest.fixture
def cluster(tmp_path):
    directory = tmp_path / "cluster"
    credentials.prepare(directory / "pki", [])
    store = Store.open(directory / "store", mode="primary")
    store.commit_now([put(NODE, json.dumps({"metadata": {"name": NODE.name}}).encode())])
    store.close()
    return directory


@pytest.fixture
def store(cluster):
    found = Store.open(cluster / "store", mode="primary")
    yield found
    found.close()


def said(what):
    """The message and the hint of an error."""
    message, _, hint = str(what.value).partition("\nhint: ")
    assert hint, f"no hint: {message}"
    return message, hint


def test_a_new_directory_and_a_cluster_are_fine(tmp_path, cluster):
    checks.directory(tmp_path / "not" / "there" / "yet")
    checks.directory(cluster)
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    checks.directory(tmp_path / "disk")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.write_bytes(data.read_bytes()[:10_000]),
        lambda data: data.write_bytes(b""),
        lambda data: data.write_bytes(b"\x5a" * data.stat().st_size),
        lambda data: data.write_bytes(data.read_bytes().replace(b"edge-1", b"edge-2")),
    ],
)
def test_a_damaged_store_is_said_to_be(cluster, damage):
    damage(cluster / "store" / "data.mdb")
    with pytest.raises(ConfigError) as caught:
        app.open_store(cluster / "store", 1000, 300)
    message, hint = said(caught)
    assert "the cluster's store is damaged" in message
    assert "kedge restore" in hint


def test_a_store_of_a_newer_kedge_is_left_alone(cluster):
    with lmdb.open(str(cluster / "store"), max_dbs=8, lib_version=0) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as transaction:
            transaction.put(b"schema", (99).to_bytes(8, "little"), db=meta)
    (cluster / "store" / "lock.mdb").unlink()
    with pytest.raises(ConfigError) as caught:
        app.open_store(cluster / "store", 1000, 300)
    message, hint = said(caught)
    assert "schema 99" in message
    assert "a newer one" in hint


def test_another_programs_database_is_not_taken_for_a_store(tmp_path):
    path = tmp_path / "cluster" / "store"
    path.mkdir(parents=True)
    with lmdb.open(str(path), max_dbs=8, lib_version=0) as environment:
        theirs = environment.open_db(b"theirs")
        with environment.begin(write=True) as transaction:
            transaction.put(b"a", b"b", db=theirs)
    (path / "lock.mdb").unlink()
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(ConfigError, match="a database that kedge never made"):
        app.open_store(path, 1000, 300)
    assert (path / "data.mdb").read_bytes() == before


def test_a_second_control_plane_is_refused(cluster, store):
    with pytest.raises(ConfigError) as caught:
        app.open_store(cluster / "store", 1000, 300)
    message, hint = said(caught)
    assert "another process has the store open" in message
    assert "stop it" in hint


def test_files_of_something_else_are_left_alone(cluster, tmp_path):
    (cluster / "store" / "member").mkdir()
    with pytest.raises(ConfigError) as caught:
        checks.directory(cluster)
    assert "files of something else: member" in said(caught)[0]
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        checks.directory(home)
    message, hint = said(caught)
    assert "no cluster is there, but files of something else: thesis.txt" in message
    assert "empty directory" in hint
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "cluster").write_text("")
    with pytest.raises(ConfigError, match="Not a directory"):
        checks.directory(tmp_path / "cluster")


def test_another_users_directory_is_refused_to_a_user_and_told_to_root(
    cluster, monkeypatch, caplog
):
    mine = os.geteuid()
    monkeypatch.setattr(checks.os, "geteuid", lambda: mine + 1)
    with pytest.raises(ConfigError) as caught:
        checks.directory(cluster)
    message, hint = said(caught)
    assert "belongs to" in message
    assert "chown -R" in hint
    monkeypatch.undo()
    if mine == 0:
        os.chown(cluster / "store" / "data.mdb", 1234, 1234)
        checks.directory(cluster)
        assert "belongs to user 1234" in caplog.text


def test_a_full_disk_is_said_and_may_pass(cluster, monkeypatch):
    monkeypatch.setattr(checks.os, "statvfs", lambda _: SimpleNamespace(f_bavail=3, f_frsize=4096))
    with pytest.raises(Full) as caught:
        checks.directory(cluster)
    message, hint = said(caught)
    assert "12288 bytes are free" in message
    assert hint == "make room there"


def test_a_clock_before_the_authority_is_said_and_may_pass(cluster, store):
    checks.keys(cluster / "pki", store)
    with pytest.raises(CertificateError) as caught:
        checks.keys(cluster / "pki", store, now=0)
    message, hint = said(caught)
    assert "the clock says 1970-01-01T00:00:00Z, before the cluster began" in message
    assert "set this machine's clock" in hint


def test_an_authority_that_has_ended_is_said(cluster, store):
    found = certificates.inspect((cluster / "pki" / "ca.crt").read_text())
    with pytest.raises(ConfigError, match="ended at"):
        checks.keys(cluster / "pki", store, now=found.not_after + 1)


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "sa.key"])
def test_keys_that_nodes_trust_are_never_made_anew(cluster, store, name):
    (cluster / "pki" / name).unlink()
    with pytest.raises(ConfigError) as caught:
        checks.keys(cluster / "pki", store)
    message, hint = said(caught)
    assert f"{name}: missing, and the cluster's nodes trust no others" in message
    assert "kedge restore" in hint


def test_a_first_start_that_was_cut_short_goes_on(tmp_path):
    store = Store.open(tmp_path / "store", mode="primary")
    try:
        checks.keys(tmp_path / "pki", store)
    finally:
        store.close()


def test_a_scribbled_authority_is_said(cluster, store):
    (cluster / "pki" / "ca.crt").write_bytes(b"\xff\x00 no certificate")
    with pytest.raises(ConfigError, match=r"ca.crt: cannot be read"):
        checks.keys(cluster / "pki", store)


def test_the_program_ends_with_one_line_and_a_hint_and_a_status_that_says_whether_to_try_again(
    cluster,
):
    data = cluster / "store" / "data.mdb"
    data.write_bytes(data.read_bytes()[:9000])
    command = [sys.executable, "-m", "kedge.cluster", "--data-dir", str(cluster)]
    command += ["--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    lines = done.stderr.strip().splitlines()
    assert lines[-2].startswith("kedge.cluster: error: ")
    assert lines[-1].startswith("hint: ")
