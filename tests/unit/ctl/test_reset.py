# SPDX-License-Identifier: Apache-2.0
"""What ``kedge reset`` refuses, and what it takes for a node's own."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kedge.ctl import leave, reset, reset_steps
from kedge.ctl.failure import Failure
from kedge.ctl.reset_steps import Node
from kedge.edge.config import MARKER
from kedge.edge.network import conflist

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="kedge reset needs root")


def joined(directory: Path, **more: str) -> Path:
    settings = {"nodeName": "edge-1", "dataDir": str(directory), "runtimeEndpoint": "unix:///no"}
    (directory / "pki").mkdir(parents=True)
    (directory / "store").mkdir()
    (directory / "pods" / "a-uid").mkdir(parents=True)
    (directory / "node.seal").write_bytes(bytes(32))
    settings |= {"logsDir": str(directory.parent / "logs")} | more
    (directory / "edge.yaml").write_text(json.dumps(settings))
    return directory


def run(directory: Path, **flags: bool) -> None:
    flags = {"yes": True, "without_runtime": True} | flags
    reset.run(reset.Options(directory, **flags))


def failure(directory: Path, **flags: bool) -> Failure:
    with pytest.raises(Failure) as caught:
        run(directory, **flags)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", ["cluster", "cloud", "kubeconfig", "mirror"])
def test_a_directory_of_a_cluster_or_cloud_is_refused(tmp_path: Path, name: str) -> None:
    joined(tmp_path / "dir")
    (tmp_path / "dir" / name).mkdir()
    assert failure(tmp_path / "dir").reason == "IsCloud"
    assert (tmp_path / "dir" / "edge.yaml").exists()


def test_the_local_node_of_a_kedge_up_that_runs_is_refused(tmp_path: Path) -> None:
    import fcntl

    joined(tmp_path / "edge")
    (tmp_path / "cluster").mkdir()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert failure(tmp_path / "edge").reason == "CloudRuns"
    run(tmp_path / "edge")
    assert not (tmp_path / "edge").exists()
    assert (tmp_path / "cluster").exists()


def test_nothing_there_is_no_node(tmp_path: Path) -> None:
    assert failure(tmp_path / "absent").reason == "NoNode"
    assert failure(tmp_path).reason == "NoNode"


def test_without_an_answer_nothing_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined(tmp_path / "dir")
    with Path("/dev/null").open() as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", nobody)
        assert failure(tmp_path / "dir", yes=False).reason == "NotConfirmed"
    assert (tmp_path / "dir" / "edge.yaml").exists()
    assert "This removes node edge-1" in capsys.readouterr().out


def test_a_runtime_that_does_not_answer_stops_it_before_anything_is_removed(tmp_path: Path) -> None:
    joined(tmp_path / "dir")
    found = failure(tmp_path / "dir", without_runtime=False)
    assert found.reason == "NoRuntime"
    assert "--without-runtime" in found.hint
    assert not (tmp_path / "dir" / MARKER).exists()


def test_a_dry_run_names_all_and_removes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined(tmp_path / "dir")
    run(tmp_path / "dir", dry_run=True)
    said = capsys.readouterr().out
    for name in ("pki", "node.seal", "edge.yaml", "store", "pods"):
        assert str(tmp_path / "dir" / name) in said
        assert (tmp_path / "dir" / name).exists()


def test_what_is_not_kedges_stays_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined(tmp_path / "dir")
    (tmp_path / "dir" / "notes.txt").write_text("mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    (tmp_path / "dir" / "pods" / "a-uid" / "way-out").symlink_to(tmp_path / "outside")
    for name in ("default_web_a-uid", "default_web_another"):
        (tmp_path / "logs" / name / "main").mkdir(parents=True)
    run(tmp_path / "dir")
    assert [one.name for one in (tmp_path / "dir").iterdir()] == ["notes.txt"]
    assert str(tmp_path / "dir" / "notes.txt") in capsys.readouterr().out
    assert (tmp_path / "outside" / "kept").exists()
    assert [one.name for one in (tmp_path / "logs").iterdir()] == ["default_web_another"]


def test_the_data_of_local_volumes_stays_unless_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = joined(tmp_path / "dir")
    (directory / "local-volumes" / "pvc-1").mkdir(parents=True)
    (directory / "local-volumes" / "pvc-1" / "data").write_text("years of work")
    run(directory)
    assert [one.name for one in directory.iterdir()] == ["local-volumes"]
    assert "--delete-volumes" in capsys.readouterr().out
    joined(directory)
    run(directory, delete_volumes=True)
    assert not directory.exists()


def test_a_reset_that_was_begun_is_gone_on_with_without_the_settings(tmp_path: Path) -> None:
    directory = joined(tmp_path / "dir")
    node = reset.read(directory)
    reset_steps.mark(node)
    (directory / "edge.yaml").unlink()
    assert reset.read(directory) == node
    run(directory, yes=False)
    assert not directory.exists()


def test_a_half_made_join_is_undone_too(tmp_path: Path) -> None:
    directory = joined(tmp_path / "dir")
    (directory / "edge.yaml").unlink()
    run(directory, without_runtime=False)
    assert not directory.exists()


def test_a_network_of_the_nodes_own_goes_unless_its_pods_stay(tmp_path: Path) -> None:
    directory = joined(tmp_path / "dir")
    path = tmp_path / "conf" / conflist.FILE
    path.parent.mkdir()
    (directory / "network").mkdir()
    (directory / "network" / "written").write_text(str(path))
    path.write_text(conflist.render(["10.85.0.0/16"], interface="kedge-none", state="/x", node="edge-1", extras=()))  # fmt: skip
    node = Node(directory, "", directory, tmp_path / "logs", "", directory / "local-volumes")
    texts = [step.text for step in reset_steps.plan(node, runtime=False)]
    assert any(text.startswith("leaving the network") for text in texts)
    for step in reset_steps.plan(node, runtime=True):
        step.act()
    assert not path.exists()
    assert not directory.exists()
    joined(directory)
    path.write_text("{}")
    (directory / "network").mkdir()
    (directory / "network" / "written").write_text(str(path))
    run(directory)
    assert path.exists(), "a network of somebody else stays"
    assert not directory.exists()


def test_the_identity_goes_after_all_else(tmp_path: Path) -> None:
    directory = joined(tmp_path / "dir")
    node = Node(directory, "edge-1", directory, tmp_path / "logs", "", directory / "local-volumes")
    texts = [step.text for step in reset_steps.plan(node, runtime=False)]
    assert "key, certificate" in texts[-2]
    assert texts[-1] == f"removing {directory}"


def with_certificate(directory: Path, **more: str) -> Path:
    joined(directory, **more)
    (directory / "pki" / "node.crt").write_text("a certificate")
    return directory


def test_the_node_asks_its_hub_last_before_its_identity_goes(tmp_path: Path) -> None:
    directory = with_certificate(tmp_path / "dir", cloud="hub.example:10000")
    node = reset.read(directory)
    asking = "asking the hub at hub.example:10000 to delete Node edge-1"
    texts = [step.text for step in reset_steps.plan(node, runtime=False)]
    assert texts.index(asking) + 1 == texts.index(
        "removing the node's key, certificate and settings"
    )
    kept = [step.text for step in reset_steps.plan(node, runtime=False, keep_node=True)]
    assert asking not in kept


@pytest.mark.parametrize("why", ["", "hub.example:10000 answered 503: busy"])
def test_what_became_of_the_node_in_the_cluster_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    directory = with_certificate(tmp_path / "dir", cloud="hub.example:10000")
    asked = []
    monkeypatch.setattr(leave, "ask", lambda cloud, pki: asked.append((cloud, pki)) or why)
    run(directory)
    assert asked == [("hub.example:10000", directory / "pki")]
    said = capsys.readouterr().out
    assert ("kubectl delete node edge-1" in said) == bool(why)
    assert ("Node edge-1 is deleted" in said) == (not why)
    assert why in said
    assert not directory.exists()


def test_a_node_that_has_left_is_not_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = with_certificate(tmp_path / "dir", cloud="hub.example:10000")
    reset_steps.mark(replace(reset.read(directory), left=True))
    run(directory)
    said = capsys.readouterr().out
    assert "asking the hub" not in said
    assert "in the cluster, Node edge-1 is deleted" in said
