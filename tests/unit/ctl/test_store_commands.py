# SPDX-License-Identifier: Apache-2.0
"""Looking into a stopped store with py-lmdb, written by the real one."""

from __future__ import annotations

import json

import pytest

from kedge.api.keys import ObjectKey
from kedge.ctl import store_commands, store_inspect
from kedge.ctl.failure import Failure
from kedge.store import Store, put

POD = ObjectKey("", "pods", "default", "web")
DEPLOYMENT = ObjectKey("apps", "deployments", "default", "web")
SECRET = ObjectKey("", "secrets", "default", "s")


@pytest.fixture
def path(tmp_path):
    store = Store.open(tmp_path / "store", mode="replica", durable=False, seal_key=b"k" * 32)
    owner = {"ownerReferences": [{"uid": "u"}], "name": "web"}
    for key in (POD, DEPLOYMENT, SECRET):
        obj = {"metadata": owner, "spec": {"nodeName": "a"}, "text": "ä"}
        store.commit_now([put(key, json.dumps(obj).encode())])
    store.close()
    return tmp_path / "store"


def test_a_dump_has_every_object_and_keeps_secrets_sealed(path, capsys):
    store_commands.dump(path, "")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = {line["key"]: line for line in lines}
    assert set(shown) == {str(POD), str(DEPLOYMENT), str(SECRET)}
    assert shown[str(POD)]["object"]["text"] == "ä"
    assert shown[str(SECRET)]["problem"] == "sealed"


def test_a_dump_of_one_resource_has_that_alone(path, capsys):
    store_commands.dump(path, "deployments.apps")
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["key"] == str(DEPLOYMENT)


def test_one_object_is_printed(path, capsys):
    store_commands.get(path, "pods", "default", "web")
    assert json.loads(capsys.readouterr().out)["spec"] == {"nodeName": "a"}


def test_what_cannot_be_shown_is_said(path, tmp_path):
    with pytest.raises(Failure, match="is not in"):
        store_commands.get(path, "pods", "default", "none")
    with pytest.raises(Failure, match="sealed"):
        store_commands.get(path, "secrets", "default", "s")
    with pytest.raises(Failure, match="no store in"):
        store_commands.dump(tmp_path, "")


def test_a_store_in_use_is_refused(path):
    store = Store.open(path, mode="replica", durable=False)
    with pytest.raises(Failure, match="is in use by a running kedge"):
        store_commands.dump(path, "")
    store.close()


def test_a_damaged_record_is_named_and_the_others_are_shown():
    raw = b"\0pods\0default\0web"
    assert store_inspect.inspect(raw, b"short").problem.startswith("damaged: 5 bytes")
    assert "checksum" in store_inspect.inspect(raw, b"\0" * 40).problem


def test_bytes_that_are_no_database_are_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(Failure, match="LMDB cannot read it"):
        store_commands.dump(tmp_path, "")
