# SPDX-License-Identifier: Apache-2.0
"""Device plugins' pure parts: counts, choices, edits, CDI files, and the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kedge.api.extended import is_extended
from kedge.edge.kubelet.devices import cdi, extended
from kedge.edge.kubelet.devices.checkpoint import Checkpoint
from kedge.edge.kubelet.devices.edits import apply, merged
from kedge.edge.kubelet.devices.endpoint import GRACE_SECONDS, Endpoint, choose


def device(name: str, health: str = "Healthy", node: int | None = None) -> dict[str, Any]:
    topology = None if node is None else {"nodes": [{"id": node}]}
    return {"id": name, "health": health, "topology": topology}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("nvidia.com/gpu", True),
        ("cpu", False),
        ("hugepages-2Mi", False),
        ("kubernetes.io/x", False),
        ("batch.kubernetes.io/x", False),
        ("requests.example/x", False),
        ("a/b/c", False),
    ],
)
def test_an_extended_resource_has_a_domain_that_is_not_kubernetes(name: str, is_one: bool) -> None:
    assert is_extended(name) == is_one


def test_only_whole_limits_above_zero_are_wanted_and_only_initial_ones_are_handed_on() -> None:
    def container(name: str, **more: Any) -> dict[str, Any]:
        limits = {"a.example/b": "2", "c.example/d": "0", "cpu": "1"}
        return {"name": name, "resources": {"limits": limits}} | more

    spec = {
        "initContainers": [container("first"), container("side", restartPolicy="Always")],
        "containers": [container("main"), {"name": "none"}],
    }
    found = [(one["name"], what, on) for one, what, on in extended.containers({"spec": spec})]
    wanted = {"a.example/b": 2}
    assert found == [("first", wanted, True), ("side", wanted, False), ("main", wanted, False)]


def test_a_plugin_that_goes_has_nothing_to_give_and_is_forgotten_later() -> None:
    one = Endpoint("a.example/b")
    one.listed([device("x"), device("y", "Unhealthy")])
    assert one.counts(0) == (2, 1)
    one.stopped_at = 10.0
    assert one.counts(11) == (2, 0)
    assert one.counts(10 + GRACE_SECONDS) == (0, 0)


def test_devices_of_one_numa_node_are_given_together_and_large_groups_are_kept_whole() -> None:
    nodes = {"a": (0,), "b": (0,), "c": (0,), "d": (1,), "e": (1,)}
    assert choose(2, set(nodes), set(), nodes) == ["d", "e"]
    assert choose(3, set(nodes), set(), nodes) == ["a", "b", "c"]
    assert choose(4, set(nodes), set(), nodes) == ["a", "b", "c", "d"]
    assert choose(2, set(nodes), {"e"}, nodes) == ["e", "d"]


def test_a_containers_own_words_stay_and_the_plugins_are_added() -> None:
    config = {
        "envs": [{"key": "A", "value": "mine"}],
        "mounts": [{"container_path": "/taken"}],
        "annotations": {"x": "mine"},
    }
    edits = merged([
        {
            "envs": {"A": "theirs", "B": "theirs"},
            "mounts": [
                {"container_path": "/taken", "host_path": "/h", "read_only": True},
                {"container_path": "/new", "host_path": "/h", "read_only": True},
            ],
            "devices": [{"container_path": "/dev/x", "host_path": "/dev/y", "permissions": "r"}],
            "annotations": {"x": "theirs", "y": "theirs"},
            "cdi_devices": [{"name": "v.example/c=1"}],
        },
        {"envs": {"B": "later"}},
    ])  # fmt: skip
    found = apply(config, edits)
    assert found["envs"] == [{"key": "B", "value": "theirs"}, {"key": "A", "value": "mine"}]
    assert [one["container_path"] for one in found["mounts"]] == ["/new", "/taken"]
    assert found["devices"][0]["host_path"] == "/dev/y"
    assert found["annotations"] == {"x": "mine", "y": "theirs"}
    assert found["cdi_devices"] == [{"name": "v.example/c=1"}]


CDI = """
cdiVersion: 0.5.0
kind: v.example/c
containerEdits:
  env: [COMMON=1]
devices:
- name: one
  containerEdits:
    deviceNodes: [{path: /dev/one, hostPath: /dev/null}]
    mounts: [{hostPath: /lib, containerPath: /lib/v, options: [ro, nosuid]}]
    hooks: [{hookName: createContainer, path: /bin/true}]
"""


def test_a_cdi_device_is_its_own_edits_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(CDI)
    edits, unhonoured = cdi.resolve(["v.example/c=one"], (tmp_path,))
    assert edits["envs"] == {"COMMON": "1"}
    assert edits["devices"] == [
        {"container_path": "/dev/one", "host_path": "/dev/null", "permissions": "rw"}
    ]
    assert edits["mounts"][0]["read_only"]
    assert unhonoured == ["CDI device v.example/c=one: hooks is not honoured on this runtime"]


def test_a_cdi_device_in_no_file_or_in_a_bad_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(cdi.CDIError, match=r"unresolvable CDI devices v\.example/c=two"):
        cdi.resolve(["v.example/c=two"], (tmp_path,))
    (tmp_path / "bad.json").write_text("[")
    with pytest.raises(cdi.CDIError, match=r"bad\.json"):
        cdi.resolve(["v.example/c=two"], (tmp_path,))
    (tmp_path / "bad.json").write_text(
        json.dumps(
            {
                "kind": "v.example/c",
                "devices": [{"name": "two", "containerEdits": {"mounts": [{}]}}],
            }
        )
    )
    with pytest.raises(cdi.CDIError, match="lacks or misspells: 'containerPath'"):
        cdi.resolve(["v.example/c=two"], (tmp_path,))


def test_a_checkpoint_outlives_its_writer_and_a_damaged_one_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    first = Checkpoint(path)
    first.know("a.example/b")
    first.put("u", "main", "a.example/b", {"ids": ["x"], "edits": {}})
    again = Checkpoint(path)
    assert again.resources == ["a.example/b"]
    assert again.taken("a.example/b") == {"x"}
    assert again.drop("u")
    assert Checkpoint(path).taken("a.example/b") == set()
    path.write_text('{"version": 9, "pods": {}, "resources": []}')
    assert Checkpoint(path).resources == []
    assert (tmp_path / "devices.damaged").exists()
