# SPDX-License-Identifier: Apache-2.0
"""Volumes on real containerd with stock kubectl: claims, local volumes, changes of objects, sub-paths, limits."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.kubectl import Kubectl
from tests.rig.mounts import mounts_below
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

REACHES_SECONDS = 2.0
"""How soon a change of an object is to be in a running pod."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("volumes") as one:
        yield one


@pytest.fixture(scope="module")
def kubectl(system: System) -> Kubectl:
    return Kubectl.of(system)


def pod(
    name: str,
    script: str = "exec sleep 1000000",
    *,
    mounts: Any = (),
    volumes: Any = (),
    **spec: Any,
) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "volumeMounts": [
            {"name": one, "mountPath": f"/{one}"} if isinstance(one, str) else one for one in mounts
        ],
    } | spec.pop("container", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {
            "containers": [container],
            "volumes": list(volumes),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            **spec,
        },
    }


def claim(name: str, size: str = "16Mi", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **spec,
        },
    }


def claimed(name: str, claim_name: str = "") -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim_name or name}}


def create(kubectl: Kubectl, *objects: dict[str, Any]) -> None:
    for one in objects:
        kubectl("create", "-f", "-", stdin=json.dumps(one))


def remove(kubectl: Kubectl, what: str, *names: str, wait: bool = True) -> None:
    kubectl("delete", what, *names, f"--wait={str(wait).lower()}", "--ignore-not-found")


def phase(kubectl: Kubectl, what: str, name: str) -> str:
    return str(kubectl.json("get", what, name).get("status", {}).get("phase", ""))


def runs(kubectl: Kubectl, name: str) -> None:
    def holds() -> bool:
        return phase(kubectl, "pod", name) == "Running"

    wait_until(holds, 30, f"{name} runs: {events(kubectl, name) if not holds() else ''}")


def in_pod(kubectl: Kubectl, name: str, script: str) -> str:
    return kubectl("exec", name, "--", "sh", "-c", script).strip()


def events(kubectl: Kubectl, name: str) -> list[str]:
    found = kubectl.json("get", "events", "--field-selector", f"involvedObject.name={name}")
    return [f"{one['reason']}: {one['message']}" for one in found["items"]]


def says(kubectl: Kubectl, name: str, *words: str, seconds: float = 30) -> str:
    """The first event about an object that has all these words."""

    def found() -> str:
        return next(
            (one for one in events(kubectl, name) if all(word in one for word in words)), ""
        )

    wait_until(found, seconds, f"an event of {name} says {words}")
    return found()


def volume_of(kubectl: Kubectl, name: str) -> str:
    return str(kubectl.json("get", "pvc", name)["spec"].get("volumeName", ""))


# claims and local volumes


def test_a_claim_is_made_on_its_node_and_its_data_outlives_pod_agent_and_machine(
    system: System, kubectl: Kubectl
) -> None:
    create(kubectl, claim("data"))
    says(kubectl, "data", "WaitForFirstConsumer")
    write = pod(
        "writer",
        "echo kept > /data/file; exec sleep 1000000",
        mounts=["data"],
        volumes=[claimed("data")],
    )
    create(kubectl, write)
    runs(kubectl, "writer")
    name = volume_of(kubectl, "data")
    assert phase(kubectl, "pvc", "data") == phase(kubectl, "pv", name) == "Bound"
    directory = system.edge_dir / "local-volumes" / name
    wait_until((directory / "file").exists, 10, "the pod has written")
    assert kubectl.json("get", "pv", name)["spec"]["local"]["path"] == str(directory)
    remove(kubectl, "pod", "writer")
    create(kubectl, pod("reader", mounts=["data"], volumes=[claimed("data")]))
    runs(kubectl, "reader")
    assert in_pod(kubectl, "reader", "cat /data/file; echo more >> /data/file") == "kept"
    system.cut_link()
    system.reboot_node(running=1, seconds=60)
    system.restore_link()
    wait_until(
        lambda: (
            kubectl.run("exec", "reader", "--", "cat", "/data/file", code=None).stdout
            == "kept\nmore\n"
        ),
        60,
        "the pod runs again on its data",
    )
    remove(kubectl, "pod", "reader")
    remove(kubectl, "pvc", "data")
    wait_until(lambda: not directory.exists(), 30, "the node has removed the data")
    wait_until(
        lambda: kubectl.run("get", "pv", name, code=None).returncode != 0, 30, "the volume is gone"
    )


def test_a_node_that_is_away_removes_what_was_deleted_when_it_is_back(
    system: System, kubectl: Kubectl
) -> None:
    create(
        kubectl,
        claim("left"),
        pod(
            "leaver",
            "touch /left/x; exec sleep 1000000",
            mounts=["left"],
            volumes=[claimed("left")],
        ),
    )
    runs(kubectl, "leaver")
    directory = system.edge_dir / "local-volumes" / volume_of(kubectl, "left")
    remove(kubectl, "pod", "leaver")
    system.cut_link()
    remove(kubectl, "pvc", "left")
    time.sleep(2)
    name = directory.name
    assert phase(kubectl, "pv", name) == "Released"
    assert (directory / "x").exists()
    system.restore_link()
    wait_until(lambda: not directory.exists(), 30, "the node has removed the data")
    wait_until(
        lambda: kubectl.run("get", "pv", name, code=None).returncode != 0, 30, "the volume is gone"
    )


def test_a_claim_that_does_not_fit_waits_and_says_so(kubectl: Kubectl) -> None:
    node = kubectl.json("get", "nodes")["items"][0]["status"]
    assert int(node["allocatable"]["kedge.io/local-storage"]) > 0
    create(kubectl, claim("huge", "900Ti"), pod("huge", mounts=["huge"], volumes=[claimed("huge")]))
    said = says(kubectl, "huge", "FailedScheduling")
    assert "1 node(s) did not have enough free storage" in said
    says(kubectl, "huge", "ProvisioningFailed")
    assert phase(kubectl, "pvc", "huge") == "Pending"
    remove(kubectl, "pod", "huge")
    remove(kubectl, "pvc", "huge")


def test_an_ephemeral_volume_comes_and_goes_with_its_pod(system: System, kubectl: Kubectl) -> None:
    template = {"spec": claim("x")["spec"]}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    create(
        kubectl,
        pod("brief", "touch /scratch/x; exec sleep 1000000", mounts=["scratch"], volumes=volumes),
    )
    runs(kubectl, "brief")
    directory = system.edge_dir / "local-volumes" / volume_of(kubectl, "brief-scratch")
    wait_until((directory / "x").exists, 10, "the pod has written")
    remove(kubectl, "pod", "brief")
    wait_until(lambda: not directory.exists(), 30, "the node has removed the data")


def test_a_static_local_volume_is_used_where_it_is_and_kept(
    system: System, kubectl: Kubectl
) -> None:
    path = system.directory / "disk"
    path.mkdir()
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [system.node_name]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "disk"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "local": {"path": str(path)},
            "storageClassName": "disks",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
    create(kubectl, volume, claim("disk", storageClassName="disks"))
    wait_until(lambda: phase(kubectl, "pvc", "disk") == "Bound", 10, "it is bound")
    security = {"securityContext": {"fsGroup": 4321, "runAsUser": 1000}}
    script = "echo hi > /disk/file; exec sleep 1000000"
    create(kubectl, pod("on-disk", script, mounts=["disk"], volumes=[claimed("disk")], **security))
    runs(kubectl, "on-disk")
    wait_until((path / "file").exists, 10, "the pod has written")
    assert (path / "file").stat().st_gid == 4321
    remove(kubectl, "pod", "on-disk")
    remove(kubectl, "pvc", "disk")
    wait_until(lambda: phase(kubectl, "pv", "disk") == "Released", 10, "it is released")
    assert (path / "file").read_text() == "hi\n"
    remove(kubectl, "pv", "disk")


# objects that change


def reaches(kubectl: Kubectl, name: str, script: str, wanted: str) -> float:
    """Seconds until a command in a pod prints something; polls from outside."""
    began = time.monotonic()
    while in_pod(kubectl, name, script) != wanted:
        assert time.monotonic() < began + 20, f"{script} never prints {wanted!r}"
    return time.monotonic() - began


def files_of(system: System, uid: str, volume: str) -> Path:
    return system.edge_dir / "memory" / uid / volume


@pytest.mark.parametrize("kind", ["configmap", "secret"])
def test_changes_deletion_and_re_creation_reach_a_running_pod_in_two_seconds(
    system: System, kubectl: Kubectl, kind: str
) -> None:
    literal = ["generic"] if kind == "secret" else []
    kubectl("create", kind, *literal, f"live-{kind}", "--from-literal=word=one")
    source = (
        {"secret": {"secretName": "live-secret"}}
        if kind == "secret"
        else {"configMap": {"name": "live-configmap"}}
    )
    name = f"watcher-{kind}"
    create(kubectl, pod(name, mounts=["live"], volumes=[{"name": "live", **source}]))
    runs(kubectl, name)
    file = files_of(system, kubectl.json("get", "pod", name)["metadata"]["uid"], "live") / "word"
    assert in_pod(kubectl, name, "cat /live/word") == "one"

    def within(words: list[str], text: str) -> None:
        kubectl(*words)
        began = time.monotonic()
        wait_until(lambda: file.read_text() == text, 20, f"the file says {text}", poll=0.005)
        took = time.monotonic() - began
        assert took < REACHES_SECONDS, f"{words[0]}: {took:.2f} s"

    value = "dHdv" if kind == "secret" else "two"
    within(["patch", kind, f"live-{kind}", "-p", json.dumps({"data": {"word": value}})], "two")
    assert in_pod(kubectl, name, "cat /live/word") == "two"
    kubectl("delete", kind, f"live-{kind}")
    said = says(kubectl, name, "FailedMount", "not found", seconds=REACHES_SECONDS + 1)
    assert f'MountVolume.SetUp failed for volume "live" : {kind} "live-{kind}" not found' in said
    assert in_pod(kubectl, name, "cat /live/word") == "two"
    within(["create", kind, *literal, f"live-{kind}", "--from-literal=word=three"], "three")
    assert in_pod(kubectl, name, "cat /live/word") == "three"
    remove(kubectl, "pod", name)


def test_labels_and_annotations_reach_the_downward_api(system: System, kubectl: Kubectl) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [{"name": "about", "downwardAPI": {"items": items}}]
    create(
        kubectl, pod("about", mounts=["about"], volumes=volumes, metadata={"labels": {"a": "1"}})
    )
    runs(kubectl, "about")
    assert in_pod(kubectl, "about", "cat /about/labels") == 'a="1"'
    kubectl("label", "pod", "about", "a=2", "--overwrite")
    assert reaches(kubectl, "about", "cat /about/labels", 'a="2"') < REACHES_SECONDS
    remove(kubectl, "pod", "about")


def test_anchors_of_a_bundle_reach_a_pod(kubectl: Kubectl) -> None:
    def bundle(certificate: str) -> dict[str, Any]:
        return {
            "apiVersion": "certificates.k8s.io/v1beta1",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": "example.com:s:one", "labels": {"live": "yes"}},
            "spec": {"signerName": "example.com/s", "trustBundle": certificate},
        }

    create(kubectl, bundle(certificate_of("first")))
    selector = {"signerName": "example.com/s", "labelSelector": {"matchLabels": {"live": "yes"}}}
    sources = [
        {"clusterTrustBundle": {"name": "example.com:s:one", "path": "named.pem"}},
        {"clusterTrustBundle": {**selector, "path": "signed.pem"}},
    ]
    create(
        kubectl,
        pod("anchors", mounts=["ca"], volumes=[{"name": "ca", "projected": {"sources": sources}}]),
    )
    runs(kubectl, "anchors")
    first = in_pod(kubectl, "anchors", "cat /ca/named.pem")
    assert first == in_pod(kubectl, "anchors", "cat /ca/signed.pem")
    assert first.startswith("-----BEGIN CERTIFICATE-----")
    kubectl("replace", "-f", "-", stdin=json.dumps(bundle(certificate_of("second"))))
    wait_until(lambda: in_pod(kubectl, "anchors", "cat /ca/named.pem") != first, 10, "it changes")
    remove(kubectl, "pod", "anchors")


def certificate_of(name: str) -> str:
    """A certificate of its own, as PEM."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    command += ["-nodes", "-keyout", "/dev/null", "-subj", f"/CN={name}", "-days", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


# parts of volumes


def test_parts_of_a_volume_are_mounted_and_links_out_of_it_are_not(
    system: System, kubectl: Kubectl
) -> None:
    kubectl("create", "configmap", "parts", "--from-literal=one.txt=1", "--from-literal=two.txt=2")
    prepare = {
        "name": "prepare",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "sh",
            "-c",
            "mkdir -p /all/sub; echo in > /all/sub/file; ln -s /etc /all/out; ln -s sub /all/in",
        ],
        "volumeMounts": [{"name": "all", "mountPath": "/all"}],
    }
    mounts = [
        {"name": "all", "mountPath": "/sub", "subPath": "sub"},
        {"name": "all", "mountPath": "/file", "subPath": "sub/file"},
        {"name": "all", "mountPath": "/linked", "subPath": "in"},
        {"name": "all", "mountPath": "/made", "subPathExpr": "made/$(NAME)"},
        {"name": "conf", "mountPath": "/conf/one.txt", "subPath": "one.txt", "readOnly": True},
    ]
    volumes = [{"name": "all", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "parts"}}]
    good = pod(
        "parts", mounts=mounts, volumes=volumes, initContainers=[prepare],
        container={"env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
    )  # fmt: skip
    create(kubectl, good)
    runs(kubectl, "parts")
    assert (
        in_pod(kubectl, "parts", "cat /sub/file /file /linked/file; ls /conf")
        == "in\nin\nin\none.txt"
    )
    in_pod(kubectl, "parts", "echo made > /made/x; rm -rf /sub/file; echo new > /sub/new")
    uid = kubectl.json("get", "pod", "parts")["metadata"]["uid"]
    root = system.edge_dir / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "all"
    assert (root / "made" / "parts" / "x").read_text() == "made\n"
    assert len(mounts_below(system.edge_dir / "pods" / uid)) == 5
    remove(kubectl, "pod", "parts")
    wait_until(lambda: not (system.edge_dir / "pods" / uid).exists(), 20, "all of it is gone")
    outside = [{"name": "all", "mountPath": "/x", "subPath": "out"}]
    create(kubectl, pod("escape", mounts=outside, volumes=volumes, initContainers=[prepare]))
    said = says(kubectl, "escape", "failed to prepare subPath")
    assert "subPath leaves the volume: out" in said
    waiting = kubectl.json("get", "pod", "escape")["status"]["containerStatuses"][0]["state"]
    assert waiting["waiting"]["reason"] == "CreateContainerConfigError"
    remove(kubectl, "pod", "escape")


def test_a_link_that_is_swapped_while_containers_start_never_shows_the_nodes_files(
    system: System, kubectl: Kubectl
) -> None:
    secret = system.directory / "outside"
    secret.mkdir()
    (secret / "of-the-node").write_text("x")
    swap = (
        "mkdir -p /all/a; while true; do mv /all/a /all/b; ln -s " + str(secret) + " /all/a; "
        "rm /all/a; mv /all/b /all/a; done"
    )
    attacker = {
        "name": "attacker",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", swap],
        "volumeMounts": [{"name": "all", "mountPath": "/all"}],
    }
    victim = pod(
        "race", "ls -a /a > /report/$(date +%s%N); exit 1",
        mounts=[{"name": "all", "mountPath": "/a", "subPath": "a"}, {"name": "report", "mountPath": "/report"}],
        volumes=[{"name": "all", "emptyDir": {}}, {"name": "report", "hostPath": {"path": str(system.directory / "report"), "type": "DirectoryOrCreate"}}],
    )  # fmt: skip
    victim["spec"]["containers"].append(attacker)
    create(kubectl, victim)
    reports = system.directory / "report"
    wait_until(
        lambda: reports.exists() and len(list(reports.iterdir())) >= 2, 60, "it has started twice"
    )
    remove(kubectl, "pod", "race")
    for one in reports.iterdir():
        assert "of-the-node" not in one.read_text()


# what goes wrong


def test_what_cannot_be_mounted_is_named_and_no_other_pod_notices(kubectl: Kubectl) -> None:
    image = {"reference": IMAGE}
    for name, volume, wanted in (
        ("nfs", {"nfs": {"server": "10.0.0.1", "path": "/x"}}, "nfs is not supported"),
        ("iscsi", {"iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2001-04.com.example:x", "lun": 0}}, "iscsi is not supported"),
        ("image", {"image": image}, "image volumes"),
        ("missing", {"secret": {"secretName": "nowhere"}}, 'secret "nowhere" not found'),
        ("wrong", {"hostPath": {"path": "/etc/passwd", "type": "Directory"}}, "is not a directory"),
        ("huge", {"emptyDir": {"medium": "HugePages-3Mi"}}, "no huge pages of 3Mi"),
    ):  # fmt: skip
        create(kubectl, pod(f"bad-{name}", mounts=["v"], volumes=[{"name": "v", **volume}]))
        said = says(kubectl, f"bad-{name}", "FailedMount", wanted)
        assert 'MountVolume.SetUp failed for volume "v" :' in said
    create(kubectl, pod("fine", mounts=["v"], volumes=[{"name": "v", "emptyDir": {}}]))
    runs(kubectl, "fine")
    kubectl("create", "secret", "generic", "nowhere", "--from-literal=a=b")
    runs(kubectl, "bad-missing")
    remove(kubectl, "pod", "--all")


def test_mounts_of_pods_that_are_gone_are_found_after_a_crash(
    system: System, kubectl: Kubectl
) -> None:
    mounts = ["m", {"name": "m", "mountPath": "/part", "subPath": "part"}]
    volumes = [
        {"name": "m", "emptyDir": {"medium": "Memory"}},
        {"name": "s", "secret": {"secretName": "nowhere", "optional": True}},
    ]
    create(kubectl, pod("crashed", mounts=mounts, volumes=volumes))
    runs(kubectl, "crashed")
    uid = kubectl.json("get", "pod", "crashed")["metadata"]["uid"]
    assert system.edge is not None
    system.edge.kill()
    kubectl("delete", "pod", "crashed", "--force", "--grace-period=0", "--wait=false")
    dead = system.edge_dir / "pods" / "0dead-pod"
    tmpfs = dead / "volumes" / "kubernetes.io~empty-dir" / "m"
    part = dead / "volume-subpaths" / "m" / "main" / "0"
    kept = system.directory / "kept"
    for path in (tmpfs, part, kept, system.edge_dir / "memory" / "1dead-pod"):
        path.mkdir(parents=True)
    (kept / "file").write_text("of the node")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmpfs)], check=True)
    subprocess.run(["mount", "--bind", str(kept), str(part)], check=True)
    system.start_edge()
    gone = [dead, system.edge_dir / "pods" / uid, system.edge_dir / "memory" / "1dead-pod"]
    wait_until(lambda: not any(one.exists() for one in gone), 60, "what was left is gone")
    assert (kept / "file").read_text() == "of the node"
    assert [one for one in mounts_below(system.edge_dir) if "/pods/" in one] == []
    system.wait_node_ready()


# the end


def test_nothing_stays_mounted_when_all_pods_are_gone(system: System, kubectl: Kubectl) -> None:
    remove(kubectl, "pod", "--all")
    pods = system.edge_dir / "pods"
    wait_until(lambda: not list(pods.iterdir()), 20, "no pod has left a directory")
    left = [one for one in mounts_below(system.edge_dir) if not one.endswith("/memory")]
    assert left == []
