# SPDX-License-Identifier: Apache-2.0
"""CRI's answers in the kubelet's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kedge.edge.runtime import answers


def image(**changes: Any) -> dict[str, Any]:
    found = {
        "id": "sha256:1",
        "repo_tags": ["a:1"],
        "repo_digests": [],
        "size": 7,
        "uid": None,
        "username": "",
    }
    return {**found, "pinned": False, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"username": "root"}, True),
        ({"username": "nobody"}, False),
        ({"uid": {"value": 0}}, True),
        ({"uid": {"value": 1000}}, False),
    ],
)
def test_an_image_without_a_user_runs_as_root(changes: dict[str, Any], expected: bool) -> None:
    assert answers.image(image(**changes)).runs_as_root is expected


def test_a_sandbox_on_the_host_network_has_no_address() -> None:
    found = {
        "id": "s",
        "metadata": {"attempt": 2},
        "state": 1,
        "created_at": 1_500_000_000,
        "labels": {},
        "annotations": {},
        "network": {"ip": "", "additional_ips": []},
    }
    sandbox = answers.sandbox(found)
    assert (sandbox.ips, sandbox.ready, sandbox.attempt, sandbox.created_at) == ((), False, 2, 1.5)


def test_both_addresses_of_a_sandbox_come_in_order() -> None:
    network = {"ip": "10.0.0.1", "additional_ips": [{"ip": "fd00::1"}]}
    found = {
        "id": "s",
        "metadata": None,
        "state": 0,
        "created_at": 0,
        "labels": {},
        "annotations": {},
    }
    assert answers.sandbox(found | {"network": network}).ips == ("10.0.0.1", "fd00::1")


def test_output_is_bytes_again() -> None:
    found = answers.executed({"exit_code": 1, "stdout": "Yf8=", "stderr": ""})
    assert (found.exit_code, found.stdout, found.stderr) == (1, b"a\xff", b"")


def containerd_says(is_systemd: bool) -> dict[str, Any]:
    runtime = {"runc": {"options": {"SystemdCgroup": is_systemd}}}
    config = {"containerd": {"defaultRuntimeName": "runc", "runtimes": runtime}}
    return {"status": None, "info": {"config": json.dumps(config)}}


def test_the_cgroup_driver_is_read_from_containerds_configuration() -> None:
    assert answers.cgroup_driver(containerd_says(is_systemd=True)) == "systemd"
    assert answers.cgroup_driver(containerd_says(is_systemd=False)) == "cgroupfs"


@pytest.mark.parametrize("info", [{}, {"config": "no json"}, {"config": "{}"}, {"config": "[]"}])
def test_a_runtime_that_does_not_tell_its_cgroup_driver_is_not_guessed(
    info: dict[str, str],
) -> None:
    assert answers.cgroup_driver({"status": None, "info": info}) is None


def test_a_state_that_cri_may_add_is_unknown() -> None:
    found = {"id": "c", "state": 9, "started_at": 0, "finished_at": 0, "exit_code": 0}
    texts = dict.fromkeys(("reason", "message", "image_ref", "log_path"), "")
    assert answers.container_status(found | texts).state == "unknown"


def test_handlers_are_those_that_the_runtime_names_else_those_of_its_configuration() -> None:
    config = json.dumps({"containerd": {"runtimes": {"runc": {}}}, "enableSelinux": False})
    old = answers.abilities({"status": None, "info": {"config": config}})
    assert sorted(old.handlers) == ["", "runc"]
    assert (old.selinux, old.strict_groups) == (False, False)
    features = {"recursive_read_only_mounts": True, "user_namespaces": True}
    new = answers.abilities(
        {
            "runtime_handlers": [
                {"name": "", "features": features},
                {"name": "x", "features": None},
            ],
            "features": {"supplemental_groups_policy": True},
            "info": {},
        }
    )
    assert new.handlers[""].user_namespaces
    assert not new.handlers["x"].user_namespaces
    assert (new.selinux, new.strict_groups) == (None, True)


def test_the_network_is_the_first_that_is_not_the_loopback() -> None:
    plugins = [{"Network": {"type": "portmap", "capabilities": {"portMappings": True, "x": False}}}]
    networks = [
        {"Config": {"Name": "cni-loopback", "Plugins": []}},
        {"Config": {"Name": "net", "Plugins": plugins}},
    ]
    cni = {"PluginConfDir": "/c", "PluginDirs": ["/b"], "Networks": networks}
    found = answers.network({"info": {"cniconfig": json.dumps(cni)}})
    assert (found.name, found.conf_dir, found.bin_dirs) == ("net", "/c", ("/b",))
    assert found.capabilities == frozenset({"portMappings"})
    assert answers.network({"info": {}}).capabilities is None
    none = answers.network({"info": {"cniconfig": json.dumps(cni | {"Networks": None})}})
    assert (none.name, none.capabilities) == ("", frozenset())
    settings = json.dumps({"cni": {"confDir": "/etc/c", "binDir": "/opt"}})
    assert answers.network({"info": {"config": settings}}).bin_dirs == ("/opt",)


def test_the_sandbox_image_is_read_from_containerds_configuration() -> None:
    found = {"info": {"config": json.dumps({"sandboxImage": "registry.k8s.io/pause:3.6"})}}
    assert answers.own_images(found) == {"registry.k8s.io/pause:3.6"}
    assert answers.own_images({"info": {"config": "[]"}}) == set()
