# SPDX-License-Identifier: Apache-2.0
"""What pods may and may not do, and who they are, on real containerd."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container, is_ready, pod
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}
STATUS = "grep -E 'CapEff|NoNewPrivs|^Seccomp:|^Groups|^Uid|^Gid' /proc/self/status"
SLEEP = "exec sleep 1000000"


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    with EdgeNode.temporary() as started:
        yield started


def configure(node: EdgeNode, **settings: Any) -> None:
    path = node.data / "edge.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def said(node: EdgeNode, one: dict[str, Any], name: str = "main") -> str:
    return "\n".join(line.split(" ", 3)[-1] for line in node.log(one, name).splitlines())


def facts(text: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key: " ".join(value.split()) for key, value in pairs}


def test_a_container_is_who_it_says_and_may_do_what_it_says(node: EdgeNode) -> None:
    plain = pod("plain", container(f"{STATUS}; touch /x && echo wrote; {SLEEP}"))
    strict = pod(
        "strict",
        container(
            f"{STATUS}; touch /x || echo refused; {SLEEP}",
            securityContext={
                "runAsGroup": 3000,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        ),
        securityContext={
            "runAsUser": 1000,
            "runAsNonRoot": True,
            "fsGroup": 4000,
            "supplementalGroups": [5000],
        },
    )
    mighty = pod(
        "mighty",
        container(
            f"{STATUS}; mount -t tmpfs none /mnt && echo mounted; {SLEEP}".replace("mount -t", "mkdir /mnt; mount -t"),
            securityContext={"privileged": True},
        ),
    )  # fmt: skip
    open_proc = pod(
        "open",
        container(
            f"test -s /proc/keys -o -r /proc/timer_list && echo open; mount | grep -c '/proc/'; {SLEEP}",
            securityContext={"procMount": "Unmasked"},
        ),
    )
    alone = pod("alone", container(f"{STATUS}; {SLEEP}", securityContext={"runAsGroup": 7}))
    node.change(plain, strict, mighty, open_proc, alone)
    node.start()
    for name in ("plain", "strict", "mighty", "open", "alone"):
        node.wait(lambda name=name: is_ready(node, name), f"{name} is ready", 40)
    node.wait(lambda: "refused" in said(node, strict), "it has tried")
    node.wait(lambda: "wrote" in said(node, plain), "it has written")
    node.wait(lambda: "mounted" in said(node, mighty), "it has mounted")
    assert facts(said(node, plain))["NoNewPrivs"] == "0"
    found = facts(said(node, strict))
    assert found["Uid"].split()[0] == "1000"
    assert found["Gid"].split()[0] == "3000"
    assert {"4000", "5000"} <= set(found["Groups"].split())
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"
    assert int(found["CapEff"], 16) == 0, "capabilities of a user that is not root are none"
    assert int(facts(said(node, mighty))["CapEff"], 16) > int(facts(said(node, plain))["CapEff"], 16)  # fmt: skip
    node.wait(lambda: said(node, open_proc).strip().endswith("0"), "nothing is mounted over /proc")
    assert facts(said(node, alone))["Gid"].split()[0] == "7"
    assert facts(said(node, alone))["Uid"].split()[0] == "0"


def test_seccomp_profiles_of_the_node_and_of_the_settings(node: EdgeNode) -> None:
    configure(node, seccompDefault=True)
    profiles = node.data / "seccomp"
    profiles.mkdir()
    (profiles / "no-mkdir.json").write_text(json.dumps(NO_MKDIR))
    (profiles / "bad.json").write_text('{"defaultAction": ')

    def confined(name: str, kind: str, **more: str) -> dict[str, Any]:
        profile = {"type": kind, **more}
        script = f"{STATUS}; mkdir /made 2>/dev/null && echo made || echo refused; {SLEEP}"
        return pod(name, container(script, securityContext={"seccompProfile": profile}))

    local = confined("local", "Localhost", localhostProfile="no-mkdir.json")
    free = confined("free", "Unconfined")
    lost = confined("lost", "Localhost", localhostProfile="absent.json")
    bad = confined("bad", "Localhost", localhostProfile="bad.json")
    silent = pod("silent", container(f"{STATUS}; {SLEEP}"))
    node.change(local, free, lost, bad, silent)
    node.start()
    for name in ("local", "free", "silent"):
        node.wait(lambda name=name: is_ready(node, name), f"{name} is ready", 40)
    node.wait(lambda: "refused" in said(node, local), "the profile refuses it")
    node.wait(lambda: "made" in said(node, free), "nothing refuses it")
    assert facts(said(node, free))["Seccomp"] == "0"
    assert facts(said(node, silent))["Seccomp"] == "2"
    for name in ("lost", "bad"):
        node.wait(
            lambda name=name: node.pods().get(name, {}).get("reason") == "CreateContainerError",
            f"{name} is named",
        )
    node.kill()
    state = node.reports("pods/status")["lost"]["status"]["containerStatuses"][0]["state"]
    path = str(profiles / "absent.json")
    assert state["waiting"]["message"] == f"seccomp profile not found on this node: {path}"
    (profiles / "absent.json").write_text(json.dumps(NO_MKDIR))
    node.start()
    node.wait(lambda: is_ready(node, "lost"), "a profile that comes later is found", 40)


def test_namespaces_of_the_pod_and_of_the_node(node: EdgeNode) -> None:
    peek = f"ps | grep -c 'sleep 100000[0]'; readlink /proc/self/ns/ipc; {SLEEP}"
    shared = pod(
        "shared",
        container(SLEEP, "first"),
        container(f"sleep 2; {peek}"),
        shareProcessNamespace=True,
    )
    host = pod(
        "host",
        container(f"for one in ipc pid net; do readlink /proc/self/ns/$one; done; {SLEEP}"),
        hostPID=True, hostIPC=True, hostNetwork=True,
    )  # fmt: skip
    node.change(shared, host)
    node.start()
    node.wait(lambda: node.pods().get("shared", {}).get("ready") == "2/2", "both run", 40)
    node.wait(lambda: is_ready(node, "host"), "it runs", 40)
    node.wait(lambda: "ipc" in said(node, shared), "it has looked")
    assert int(said(node, shared).splitlines()[0]) >= 1, "one container sees the other"
    node.wait(lambda: said(node, host).count("\n") >= 2, "it has looked")
    mine = [str(Path(f"/proc/self/ns/{one}").readlink()) for one in ("ipc", "pid", "net")]
    assert said(node, host).splitlines()[:3] == mine


def test_kernel_settings_are_the_pods_own_or_refused(node: EdgeNode) -> None:
    configure(node, allowedUnsafeSysctls=["net.core.somaxconn"])
    values = [
        {"name": "net.ipv4.tcp_syncookies", "value": "0"},
        {"name": "net.core.somaxconn", "value": "77"},
    ]
    script = f"cat /proc/sys/net/ipv4/tcp_syncookies /proc/sys/net/core/somaxconn; {SLEEP}"
    tuned = pod("tuned", container(script), securityContext={"sysctls": values})
    bad = [{"name": "kernel.msgmax", "value": "1"}]
    refused = pod("refused", container(SLEEP), securityContext={"sysctls": bad})
    strict = pod("strict", container(SLEEP), securityContext={"supplementalGroupsPolicy": "Strict"})
    armoured = pod(
        "armoured",
        container(SLEEP, securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}),
    )
    node.change(tuned, refused, strict, armoured)
    node.start()
    node.wait(lambda: is_ready(node, "tuned"), "it is ready", 40)
    node.wait(lambda: said(node, tuned).split() == ["0", "77"], "it has its own settings")
    names = ["refused", "strict"] + ([] if Path("/sys/module/apparmor").exists() else ["armoured"])
    for name in names:
        node.wait(
            lambda name=name: node.pods().get(name, {}).get("phase") == "Failed", f"{name} failed"
        )
    node.kill()
    statuses = node.reports("pods/status")
    reasons = {name: statuses[name]["status"]["reason"] for name in names}
    assert reasons["refused"] == "SysctlForbidden"
    assert reasons["strict"] == "SupplementalGroupsPolicyNotSupported"
    assert reasons.get("armoured", "AppArmor") == "AppArmor"
    events = [one["reason"] for one in node.reports("events").values()]
    assert set(reasons.values()) <= set(events)
    assert len(node.containerd.running_containers()) == 1, "nothing was made for the others"


def test_a_runtime_class_chooses_the_handler(node: EdgeNode) -> None:
    ours = pod("ours", container(SLEEP), runtimeClassName="ours")
    odd = pod("odd", container(SLEEP), runtimeClassName="odd")
    lost = pod("lost", container(SLEEP), runtimeClassName="lost")
    users = pod("users", container(SLEEP), hostUsers=False)
    classes = [
        {"kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler}
        for name, handler in (("ours", "runc"), ("odd", "kata"))
    ]
    plain = pod("plain", container(SLEEP))
    node.change(ours, odd, lost, users, plain, *classes)
    node.start()
    node.wait(lambda: is_ready(node, "ours"), "its handler is there", 40)
    node.wait(lambda: is_ready(node, "plain"), "no other pod notices", 40)
    node.wait(lambda: len(node.pods()) == 5, "all are known")
    node.kill()
    events = [
        (one["involvedObject"]["name"], one["message"])
        for one in node.reports("events").values()
        if one["reason"] == "FailedCreatePodSandBox"
    ]
    wanted = {
        "odd": 'no handler "kata"; it has: runc',
        "lost": 'RuntimeClass "lost" not found',
        "users": "does not support user namespaces",
    }
    for name, text in wanted.items():
        assert any(who == name and text in message for who, message in events), (name, events)
    status = node.reports("nodes/status")["edge-1"]["status"]
    assert {one["name"] for one in status["runtimeHandlers"]} == {"", "runc"}
    assert status["features"] == {"supplementalGroupsPolicy": False}


MANIFEST = """
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: plain}
handler: runc
overhead: {podFixed: {memory: 16Mi}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: strange}
handler: kata
---
apiVersion: v1
kind: Pod
metadata: {name: classy}
spec:
  runtimeClassName: plain
  containers: [{name: main, image: "docker.io/library/busybox:latest", imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: strange}
spec:
  runtimeClassName: strange
  containers: [{name: main, image: "docker.io/library/busybox:latest", imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: tuned}
spec:
  securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}
  containers: [{name: main, image: "docker.io/library/busybox:latest", command: [sleep, "1000000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: lonely}
spec:
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {}}]
  resourceClaims: [{name: gpu, resourceClaimName: gpu}]
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: "docker.io/library/busybox:latest", imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}]
"""


def test_kubectl_shows_what_a_node_does_not_do() -> None:
    directory = Path(tempfile.mkdtemp(prefix="kedge-e2e-"))
    path = directory / "pods.yaml"
    path.write_text(MANIFEST)
    with System(directory / "system") as system:
        system.kubectl("apply", "-f", str(path))
        for name in ("classy", "lonely"):
            system.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

        def described(name: str, *words: str) -> bool:
            text = system.kubectl("describe", "pod", name)
            return all(word in text for word in words)

        strange = ("FailedCreatePodSandBox", 'RuntimeClass "strange"', 'no handler "kata"')
        wait_until(lambda: described("strange", *strange), 30, "it is described")
        wait_until(lambda: described("tuned", "SysctlForbidden"), 30, "it is described")
        unread = ("NotHonoured", "spec.affinity.podAntiAffinity", "spec.resourceClaims")
        wait_until(lambda: described("lonely", *unread), 30, "it is described")
        listed = system.kubectl("get", "pods")
        assert "SysctlForbidden" in next(
            line for line in listed.splitlines() if line.startswith("tuned")
        )
        overhead = system.kubectl("get", "pod", "classy", "-o", "jsonpath={.spec.overhead.memory}")
        assert overhead == "16Mi"
        handlers = system.kubectl(
            "get", "node", system.node_name, "-o", "jsonpath={.status.runtimeHandlers[*].name}"
        )
        assert "runc" in handlers
        system.kubectl("delete", "runtimeclass", "strange")
        wait_until(
            lambda: described("strange", 'RuntimeClass "strange" not found'), 60, "it is told again"
        )
    shutil.rmtree(directory, ignore_errors=True)
