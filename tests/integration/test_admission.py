# SPDX-License-Identifier: Apache-2.0
"""Pods that the node does not take, and sandboxes that cannot be made, on a fake runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.edge.runtime import Abilities, Handler, NetworkInfo
from kedge.edge.runtime.fake import FakeRuntime
from kedge.store import Store
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec


@pytest.fixture
def kubelet(tmp_path: Path, runtime: FakeRuntime) -> Iterator[Kubelet]:
    store = Store.open(tmp_path / "store", mode="replica", seal_key=bytes(32))
    yield Kubelet(store, runtime, tmp_path)
    store.close()


def on_port(name: str, number: int = 8080, **port: Any) -> dict[str, Any]:
    held = {"containerPort": 80, "hostPort": number, **port}
    return pod(spec(ports=[held]), name=name, uid=name)


def waiting(kubelet: Kubelet, name: str = "web") -> tuple[str, str]:
    for one in kubelet.status(name).get("containerStatuses") or []:
        found = one["state"].get("waiting", {})
        return found.get("reason", ""), found.get("message", "")
    return "", ""


@pytest.mark.parametrize(
    ("held", "reason", "message"),
    [
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "kernel.msgmax" not allowlisted',
        ),
        (
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled',
        ),
        (
            {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}},
            "AppArmor",
            "Cannot enforce AppArmor: AppArmor is not enabled on the host",
        ),
        (
            {"securityContext": {"supplementalGroupsPolicy": "Strict"}},
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ),
        (
            {"os": {"name": "windows"}},
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
    ],
)  # fmt: skip
async def test_a_pod_that_the_node_cannot_take_fails_with_the_reason(
    kubelet: Kubelet,
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    held: dict[str, Any],
    reason: str,
    message: str,
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.admission.admission.has_app_armor", lambda: False)
    async with kubelet:
        await kubelet.apply(pod(**held), pod(name="other", uid="u2"))
        await until(lambda: kubelet.status("web").get("phase") == "Failed")
        status = kubelet.status("web")
        assert (status["reason"], status["message"]) == (reason, f"Pod was rejected: {message}")
        assert "containerStatuses" not in status
        assert (reason, message) in await kubelet.events()
        await until(lambda: kubelet.is_ready("other"), "no other pod notices")
        assert len(runtime.sandboxes) == 1
    async with kubelet:
        await until(lambda: len(kubelet.pods.workers()) == 2)
        assert kubelet.status("web") == status
        await kubelet.delete(pod(**held))
        await until(lambda: len(kubelet.pods.workers()) == 1, "nothing of it is left")


async def test_what_the_settings_allow_is_taken(kubelet: Kubelet, runtime: FakeRuntime) -> None:
    async with kubelet:
        security = kubelet.tools.facts.security
        kubelet.tools.facts.security = type(security)(unsafe_sysctls=("kernel.msg*",))
        values = [{"name": "kernel.msgmax", "value": "65536"}, {"name": "net.ipv4.tcp_syncookies", "value": "1"}]  # fmt: skip
        await kubelet.apply(pod(securityContext={"sysctls": values}))
        await until(lambda: kubelet.is_ready("web"))
        held = next(iter(runtime.sandboxes))
        assert runtime.configs[held]["linux"]["sysctls"] == {
            "kernel.msgmax": "65536",
            "net.ipv4.tcp_syncookies": "1",
        }


async def test_a_port_of_the_node_is_for_one_pod_at_a_time(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    async with kubelet:
        await kubelet.apply(on_port("first"))
        await until(lambda: kubelet.is_ready("first"))
        mapped = runtime.configs[next(iter(runtime.sandboxes))]["port_mappings"]
        assert mapped == [{"protocol": 0, "container_port": 80, "host_port": 8080, "host_ip": ""}]
        await kubelet.apply(on_port("second"), on_port("third", protocol="UDP"))
        await until(lambda: kubelet.is_ready("third"), "another protocol is another port")
        await until(lambda: kubelet.status("second").get("phase") == "Failed")
        status = kubelet.status("second")
        assert status["reason"] == "NodePorts"
        assert status["message"].endswith("8080/TCP is used by pod default/first")
    await kubelet.apply(on_port("a-fourth"))
    async with kubelet:
        await until(lambda: kubelet.status("a-fourth").get("reason") == "NodePorts")
        await until(lambda: len(kubelet.pods.workers()) == 4)
        await kubelet.delete(on_port("first"))
        await until(lambda: len(kubelet.pods.workers()) == 3)
        await kubelet.apply(on_port("fifth"))
        await until(lambda: kubelet.is_ready("fifth"), "the port is free again")


async def test_addresses_of_the_node_do_not_clash_with_each_other(kubelet: Kubelet) -> None:
    async with kubelet:
        await kubelet.apply(on_port("first", hostIP="10.0.0.1"))
        await until(lambda: kubelet.is_ready("first"))
        await kubelet.apply(on_port("second", hostIP="10.0.0.2"), on_port("third"))
        await until(lambda: kubelet.is_ready("second"))
        await until(lambda: kubelet.status("third").get("reason") == "NodePorts")


async def test_a_runtime_class_names_the_handler_and_may_come_later(
    kubelet: Kubelet, runtime: FakeRuntime
) -> None:
    gvisor = {"kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"}
    async with kubelet:
        kubelet.tools.facts.abilities = Abilities({"": Handler(), "runc": Handler()})
        await kubelet.apply(pod(runtimeClassName="gvisor"), pod(name="other", uid="u2"))
        await until(lambda: waiting(kubelet)[1] == 'RuntimeClass "gvisor" not found')
        assert waiting(kubelet)[0] == "ContainerCreating"
        await kubelet.apply(gvisor)
        wanted = 'RuntimeClass "gvisor": the container runtime has no handler "runsc"; it has: runc'
        await until(lambda: waiting(kubelet)[1] == wanted)
        assert (
            "FailedCreatePodSandBox",
            f"Failed to create pod sandbox: {wanted}",
        ) in await kubelet.events()
        await until(lambda: kubelet.is_ready("other"), "no other pod notices")
        kubelet.tools.facts.abilities = Abilities({"": Handler(), "runsc": Handler()})
        await kubelet.apply(gvisor | {"metadata": {"name": "gvisor", "labels": {"a": "b"}}})
        await until(lambda: kubelet.is_ready("web"))
        assert sorted(runtime.handlers.values()) == ["", "runsc"]
        await kubelet.delete(gvisor)
        for one in [one.id for one in runtime.containers.values()]:
            runtime.end(one, 1)
        await until(
            lambda: runtime.calls["start_container"] == 4,
            "containers start again in a sandbox whose class is gone",
        )


async def test_users_of_its_own_are_kept_for_a_pod_or_refused(
    kubelet: Kubelet, runtime: FakeRuntime, tmp_path: Path
) -> None:
    async with kubelet:
        kubelet.tools.facts.abilities = Abilities({"": Handler()})
        await kubelet.apply(pod(hostUsers=False))
        await until(lambda: "does not support user namespaces" in waiting(kubelet)[1])
        kubelet.tools.facts.abilities = Abilities({"": Handler(user_namespaces=True)})
        await kubelet.apply(pod(name="second", uid="u2", hostUsers=False))
        await until(lambda: kubelet.is_ready("second"))
        await until(lambda: kubelet.is_ready("web"), "the first is tried again")
        ranges = []
        for one in runtime.sandboxes:
            options = runtime.configs[one]["linux"]["security_context"]["namespace_options"]
            ranges.append(options["userns_options"]["uids"][0])
        assert sorted(one["host_id"] for one in ranges) == [65536, 131072]
        assert {one["length"] for one in ranges} == {65536}
        held = next(config for config in runtime.configs.values() if "mounts" in config)
        assert all(one["uid_mappings"][0]["length"] == 65536 for one in held["mounts"])
        kept = json.loads((tmp_path / "pods" / "u2" / "userns").read_text())
        assert kept["uidMappings"][0]["hostId"] in (65536, 131072)
        assert kept["gidMappings"] == kept["uidMappings"]
        await kubelet.delete(pod(name="second", uid="u2"))
        await until(lambda: not (tmp_path / "pods" / "u2").exists(), "its range is free")


async def test_what_the_network_cannot_do_is_said(kubelet: Kubelet, runtime: FakeRuntime) -> None:
    runtime.network_info = NetworkInfo("plain", capabilities=frozenset())
    slow = {"annotations": {"kubernetes.io/egress-bandwidth": "1M"}}
    odd = {"annotations": {"kubernetes.io/ingress-bandwidth": "fast"}}
    async with kubelet:
        await kubelet.apply(
            on_port("mapped"),
            pod(name="slow", uid="u2", metadata=slow),
            pod(name="odd", uid="u3", metadata=odd),
        )
        await until(lambda: kubelet.is_ready("mapped") and kubelet.is_ready("slow"))
        await until(lambda: "kubernetes.io/ingress-bandwidth" in waiting(kubelet, "odd")[1])
        said = [message for reason, message in await kubelet.events() if reason == "NotHonoured"]
    assert len(said) == 2
    assert any("hostPort 8080" in one and "portmap" in one for one in said)
    assert any("egress-bandwidth" in one and '"plain"' in one for one in said)
