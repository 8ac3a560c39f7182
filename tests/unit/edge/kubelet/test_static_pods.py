# SPDX-License-Identifier: Apache-2.0
"""Static pods: manifests become pods, mirrors come and go."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api import static_pods
from kedge.edge.kubelet.static_pods import mirrors, static_files
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, since: 2027-01-15}}
spec:
  containers: [{name: main, image: "busybox:1", ports: [{containerPort: 80}]}]
"""


def entries(directory: Path) -> dict[str, dict[str, Any]]:
    return {one["file"]: one for one in static_files.read_directory(directory, "edge-1")}


def test_a_manifest_becomes_a_complete_pod_of_this_node(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST)
    found = entries(tmp_path)["web.yaml"]["pod"]
    metadata = found["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("web-edge-1", "default")
    assert metadata["labels"] == {"app": "web", "since": "2027-01-15"}
    assert metadata["annotations"][static_pods.HASH] == metadata["uid"]
    assert found["spec"]["nodeName"] == "edge-1"
    assert found["spec"]["restartPolicy"] == "Always"
    assert {"operator": "Exists", "effect": "NoExecute"} in found["spec"]["tolerations"]
    assert found["spec"]["containers"][0]["ports"][0]["protocol"] == "TCP"


def test_json_will_do_and_the_uid_is_of_the_content(tmp_path: Path) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [spec()]},
    }
    (tmp_path / "a.json").write_text(json.dumps(body))
    first = entries(tmp_path)["a.json"]["pod"]["metadata"]["uid"]
    assert entries(tmp_path)["a.json"]["pod"]["metadata"]["uid"] == first
    body["spec"]["containers"][0]["image"] = "busybox:2"  # type: ignore[index]
    (tmp_path / "a.json").write_text(json.dumps(body))
    assert entries(tmp_path)["a.json"]["pod"]["metadata"]["uid"] != first


BAD = {
    "no-yaml": ("a: [", "neither YAML nor JSON"),
    "a-list": ("[]", "wanted one object"),
    "another-kind": ("{apiVersion: v1, kind: Service}", "wanted a v1 Pod, got: v1 Service"),
    "two": ("---\na: 1\n---\nb: 1\n", "neither YAML nor JSON"),
    "no-name": (MANIFEST.replace("name: web, ", ""), "metadata.name"),
    "no-containers": ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: []}}", "spec.containers"),
    "a-wrong-type": (MANIFEST.replace("80", "many"), "containerPort"),
    "a-service-account": (MANIFEST + "  serviceAccountName: admin\n", "spec.serviceAccountName: ServiceAccounts"),
    "a-secret": (MANIFEST + "  volumes: [{name: v, secret: {secretName: s}}]\n", "spec.volumes[0].secret: Secrets"),
    "too-large": ("#" * 300_000, "larger than"),
    "many-of-few": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
        "more than",
    ),
    "not-text": ("", "wanted one object"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_the_others_are_read(name: str, tmp_path: Path) -> None:
    text, wanted = BAD[name]
    (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "web.yaml").write_text(MANIFEST)
    found = entries(tmp_path)
    assert wanted in found[f"{name}.yaml"]["error"]
    assert "\n" not in found[f"{name}.yaml"]["error"]
    assert "pod" in found["web.yaml"]


def test_what_is_no_manifest_is_left_out(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text(MANIFEST)
    (tmp_path / "sub").mkdir()
    (tmp_path / "web.yaml").write_text(MANIFEST)
    (tmp_path / "web-copy.yaml").write_text(MANIFEST)
    found = entries(tmp_path)
    assert sorted(found) == ["web-copy.yaml", "web.yaml"]
    assert found["web.yaml"]["error"] == "the same pod is in web-copy.yaml: web-edge-1"
    assert static_files.read_directory(tmp_path / "none", "edge-1") == []


def test_unknown_fields_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST + "  surprise: 1\n")
    assert entries(tmp_path)["web.yaml"]["warning"] == "unknown fields: spec.surprise"


def test_the_reader_is_a_program(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST)
    command = [
        sys.executable,
        "-m",
        "kedge.edge.kubelet.static_pods.static_files",
        str(tmp_path),
        "edge-1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert [one["file"] for one in json.loads(done.stdout)] == ["web.yaml"]


REFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"imagePullSecrets": [{"name": "s"}]}, "spec.imagePullSecrets: Secrets"),
    ({"volumes": [{"configMap": {"name": "c"}}]}, "spec.volumes[0].configMap: ConfigMaps"),
    ({"volumes": [{"persistentVolumeClaim": {}}]}, "spec.volumes[0].persistentVolumeClaim: PersistentVolumeClaims"),
    ({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]}, "spec.volumes[0].csi.nodePublishSecretRef: Secrets"),
    ({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}, "spec.volumes[0].projected.sources[0].serviceAccountToken: ServiceAccounts"),
    ({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}, "spec.containers[0].envFrom[0].secretRef: Secrets"),
    ({"initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {}}}]}]}, "spec.initContainers[0].env[0].valueFrom.configMapKeyRef: ConfigMaps"),
]  # fmt: skip


@pytest.mark.parametrize(("held", "wanted"), REFERENCES, ids=[one[1] for one in REFERENCES])
def test_references_to_objects_are_found(held: dict[str, Any], wanted: str) -> None:
    assert static_pods.references(held) == [wanted]


def test_what_refers_to_no_object_has_no_references() -> None:
    plain = {
        "containers": [spec(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}])],
        "volumes": [{"hostPath": {"path": "/"}}, {"projected": {"sources": [{"downwardAPI": {}}]}}],
    }
    assert static_pods.references(plain) == []


STATIC = pod(uid="s1")
MIRROR = pod(uid="m1", metadata={"annotations": {static_pods.MIRROR: "s1"}})
STALE = pod(uid="m0", metadata={"annotations": {static_pods.MIRROR: "s0"}})
DYING = pod(uid="m1", metadata=MIRROR["metadata"] | {"deletionTimestamp": "x"})
STEPS: list[tuple[str, Any, Any, bool, str]] = [
    ("a static pod gets a mirror", STATIC, None, True, "create"),
    ("which is enough", STATIC, MIRROR, True, ""),
    ("a mirror of an earlier content goes", STATIC, STALE, True, "delete"),
    ("a mirror that is deleted goes", STATIC, DYING, True, "delete"),
    ("a mirror stays until its pod has ended", None, MIRROR, True, ""),
    ("then it goes", None, MIRROR, False, "delete"),
    ("nothing of nothing", None, None, False, ""),
]


@pytest.mark.parametrize(
    ("static", "mirror", "is_running", "wanted"),
    [one[1:] for one in STEPS],
    ids=[one[0] for one in STEPS],
)
def test_a_step_of_mirroring(static: Any, mirror: Any, is_running: bool, wanted: str) -> None:
    assert mirrors.step(static, mirror, is_running=is_running) == wanted


def test_a_mirror_has_no_uid_and_says_whose_it_is() -> None:
    made = mirrors.mirror_of(
        pod(uid="s1", metadata={"annotations": {"a": "b"}, "labels": {"c": "d"}})
    )
    assert made["metadata"]["annotations"] == {"a": "b", static_pods.MIRROR: "s1"}
    assert "uid" not in made["metadata"]
