# SPDX-License-Identifier: Apache-2.0
"""Security contexts as the runtime is told them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kedge.edge.config import EdgeConfig
from kedge.edge.kubelet.admission import admission, unhonoured
from kedge.edge.kubelet.container import host_ports, security, sysctls
from kedge.edge.kubelet.container.environment import ContainerConfigError
from kedge.edge.runtime import Image
from tests.unit.edge.kubelet.builders import pod, spec

ROOT_IMAGE = Image("sha256:1", runs_as_root=True)
NONE = security.Settings()


def context(outer: dict[str, Any], own: dict[str, Any], user: str = "") -> dict[str, Any]:
    held = spec(securityContext=own)
    return security.container_context(pod(held, securityContext=outer), held, NONE, user, None)


def test_what_a_container_says_goes_before_the_pod() -> None:
    outer = {
        "runAsUser": 1000,
        "runAsGroup": 2000,
        "supplementalGroups": [7],
        "fsGroup": 8,
        "seccompProfile": {"type": "RuntimeDefault"},
        "seLinuxOptions": {"level": "s0"},
    }
    own = {
        "runAsUser": 0,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "Unconfined"},
    }
    found = context(outer, own)
    assert found["run_as_user"] == {"value": 0}
    assert found["run_as_group"] == {"value": 2000}
    assert found["supplemental_groups"] == [7, 8]
    assert found["capabilities"] == {"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["ALL"]}  # fmt: skip
    assert found["seccomp"] == {"profile_type": 1, "localhost_ref": ""}
    assert found["selinux_options"]["level"] == "s0"
    assert found["readonly_rootfs"]
    assert found["no_new_privs"]
    assert "/proc/kcore" in found["masked_paths"]


@pytest.mark.parametrize(
    ("user", "wanted"),
    [("", {"run_as_user": {"value": 0}}), ("7", {"run_as_user": {"value": 7}}), ("app", {"run_as_username": "app"})],
)  # fmt: skip
def test_a_group_alone_goes_with_the_images_user(user: str, wanted: dict[str, Any]) -> None:
    found = context({}, {"runAsGroup": 5}, user)
    assert found["run_as_group"] == {"value": 5}
    assert {key: value for key, value in found.items() if key in wanted} == wanted


@pytest.mark.parametrize("own", [{"privileged": True}, {"procMount": "Unmasked"}])
def test_nothing_is_hidden_from_those_who_may_see_all(own: dict[str, Any]) -> None:
    found = context({}, own)
    assert (found["masked_paths"], found["readonly_paths"]) == ([], [])


def test_a_node_may_confine_those_who_say_nothing() -> None:
    settings = security.Settings(seccomp_default=True)
    found = security.container_context(pod(), spec(), settings, "", None)
    assert found["seccomp"] == {"profile_type": 0, "localhost_ref": ""}
    assert "seccomp" not in security.container_context(pod(), spec(), NONE, "", None)
    assert security.sandbox_context(pod(), settings, None)["seccomp"]["profile_type"] == 0


@pytest.mark.parametrize(
    ("own", "image", "message"),
    [
        ({"runAsNonRoot": True, "runAsUser": 0}, ROOT_IMAGE, "runAsUser breaks non-root policy"),
        ({"runAsNonRoot": True}, ROOT_IMAGE, "image will run as root"),
        ({"runAsNonRoot": True}, Image("a", user="app"), r"non-numeric user \(app\), cannot verify"),
    ],
)  # fmt: skip
def test_root_is_refused_to_those_who_must_not_be_root(
    own: dict[str, Any], image: Image, message: str
) -> None:
    held = spec(securityContext=own)
    with pytest.raises(ContainerConfigError, match=message):
        security.check(pod(held), held, image, NONE)
    security.check(pod(held), spec(securityContext={"runAsUser": 5}), image, NONE)
    security.check(pod(held), held | {"securityContext": {"runAsNonRoot": True}}, Image("a", user="7"), NONE)  # fmt: skip


def test_a_profile_of_the_node_must_be_there_and_below_its_directory(tmp_path: Path) -> None:
    settings = security.Settings(str(tmp_path))
    for name, message in (("audit.json", "not found on this node"), ("../x.json", "not below")):
        profile = {"type": "Localhost", "localhostProfile": name}
        held = spec(securityContext={"seccompProfile": profile})
        with pytest.raises(security.CreateContainerError, match=message):
            security.check(pod(held), held, ROOT_IMAGE, settings)
    (tmp_path / "audit.json").write_text("{}")
    held = spec(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "audit.json"}})  # fmt: skip
    security.check(pod(held), held, ROOT_IMAGE, settings)
    found = security.container_context(pod(held), held, settings, "", None)
    assert found["seccomp"] == {"profile_type": 2, "localhost_ref": str(tmp_path / "audit.json")}


def test_app_armor_is_the_containers_own_else_the_annotations_else_the_pods() -> None:
    metadata = {"annotations": {f"{security.APPARMOR_ANNOTATION}main": "localhost/mine"}}
    outer = {"appArmorProfile": {"type": "RuntimeDefault"}}
    held = pod(metadata=metadata, securityContext=outer)
    found = security.container_context(held, spec(), NONE, "", None)
    assert found["apparmor"] == {"profile_type": 2, "localhost_ref": "mine"}
    assert found["apparmor_profile"] == "localhost/mine"
    other = security.container_context(held, spec("other"), NONE, "", None)
    assert other["apparmor"]["profile_type"] == 0
    own = spec(securityContext={"appArmorProfile": {"type": "Unconfined"}})
    assert security.container_context(held, own, NONE, "", None)["apparmor_profile"] == "unconfined"


def test_namespaces_of_the_node_and_of_the_pod() -> None:
    assert security.namespaces({}, None) == {"network": 0, "pid": 1, "ipc": 0}
    shared = {"hostNetwork": True, "hostPID": True, "hostIPC": True}
    assert security.namespaces(shared, None) == {"network": 2, "pid": 2, "ipc": 2}
    assert security.namespaces({"shareProcessNamespace": True}, {"mode": 0})["pid"] == 0


@pytest.mark.parametrize("name", ["net.core.somaxconn", "net/core/somaxconn", "kernel.shmmax"])
def test_unsafe_settings_are_allowed_by_name_or_beginning(name: str) -> None:
    held = pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})
    assert sysctls.admit(held, ()) is not None
    assert sysctls.admit(held, ("net.core.*", "kernel.shmmax")) is None


def test_a_slash_first_makes_dots_part_of_a_name() -> None:
    assert sysctls.dotted("net/ipv4/conf/eth0.100/forwarding") == "net.ipv4.conf.eth0/100.forwarding"  # fmt: skip


@pytest.mark.parametrize("pattern", ["vm.swappiness", "kernel.panic", "*", "net..x", "NET.x"])
def test_the_settings_of_the_agent_cannot_allow_what_is_the_nodes(pattern: str) -> None:
    with pytest.raises(ValueError, match="allowedUnsafeSysctls"):
        EdgeConfig(allowed_unsafe_sysctls=(pattern,))
    EdgeConfig(allowed_unsafe_sysctls=("net.*", "kernel.msg*", "fs.mqueue.msg_max"))


def test_a_rejection_outlives_the_agent_but_a_deadline_is_none() -> None:
    status = {"phase": "Failed", "reason": "NodePorts", "message": "m"}
    found = admission.restored(status)
    assert found is not None
    assert (found.reason, found.message, found.is_disruption) == ("NodePorts", "m", False)
    assert admission.restored(status | {"reason": "DeadlineExceeded"}) is None
    assert admission.restored({"phase": "Failed"}) is None


def test_ports_on_the_host_network_are_held_but_not_mapped() -> None:
    held = pod(spec(ports=[{"containerPort": 80, "hostPort": 80}]), hostNetwork=True)
    assert host_ports.mappings(held) == []
    ledger = host_ports.HostPorts()
    assert ledger.claim(held) is None
    other = pod(spec(ports=[{"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}]), uid="u2")
    found = ledger.claim(other)
    assert found is not None
    assert found.reason == "NodePorts"
    ledger.release("u1")
    assert ledger.claim(other) is None


def test_labels_that_nobody_gives_are_said() -> None:
    labelled = {"seLinuxOptions": {"type": "t"}}
    said = unhonoured.unlabelled(pod(spec(securityContext=labelled), securityContext=labelled))
    assert [one.split(" ")[0] for one in said] == [
        "spec.securityContext.seLinuxOptions",
        "spec.containers[main].securityContext.seLinuxOptions",
    ]
    assert unhonoured.unlabelled(pod()) == []
