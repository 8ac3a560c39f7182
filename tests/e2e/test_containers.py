# SPDX-License-Identifier: Apache-2.0
"""What people ask of containers: debugging, hooks, sidecars, probes; stock kubectl, real containerd."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.kubectl import Kubectl, fetched
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVE = "mkdir -p /www; echo ok > /www/index.html; exec httpd -f -p 8080 -h /www"
STAY = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **more,
    }


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 5, **spec},
    }


def run(script: str) -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", script]}}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("containers") as one:
        yield one


@pytest.fixture(scope="module")
def kubectl(system: System) -> Kubectl:
    return Kubectl.of(system, fetched("current"))


class Pods:
    """Creates pods and removes them again."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.made: list[str] = []

    def create(self, one: dict[str, Any], phase: str = "Running") -> str:
        name = str(one["metadata"]["name"])
        self.kubectl("create", "-f", "-", stdin=json.dumps(one))
        self.made.append(name)
        if phase:
            self.until(name, lambda found: found["status"].get("phase") == phase, f"is {phase}")
        return name

    def get(self, name: str) -> Any:
        return self.kubectl.json("get", "pod", name)

    def until(self, name: str, check: Any, what: str, seconds: float = 30) -> Any:
        def look() -> Any:
            found = self.get(name)
            return found if check(found) else None

        return wait_until(look, seconds, f"{name} {what}")

    def ready(self, name: str) -> Any:
        return self.until(name, is_ready, "is ready")

    def events(self, name: str) -> list[tuple[str, str]]:
        words = ("get", "events", "--field-selector", f"involvedObject.name={name}")
        return [(one["reason"], one["message"]) for one in self.kubectl.json(*words)["items"]]

    def said(self, name: str, reason: str, part: str = "") -> None:
        wait_until(
            lambda: any(one[0] == reason and part in one[1] for one in self.events(name)),
            20,
            f"{name} has the Event {reason} {part}",
        )


@pytest.fixture
def pods(kubectl: Kubectl) -> Iterator[Pods]:
    found = Pods(kubectl)
    yield found
    for name in found.made:
        kubectl.run("delete", "pod", name, "--grace-period=1", "--wait=true", code=None)


def is_ready(found: Any) -> bool:
    conditions = found["status"].get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def status(found: Any, name: str) -> Any:
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    every = [one for kind in kinds for one in found["status"].get(kind) or []]
    return next((one for one in every if one["name"] == name), {"state": {}})


def test_kubectl_debug_looks_into_a_running_pod(kubectl: Kubectl, pods: Pods) -> None:
    name = pods.create(pod("app", container("main", SERVE)))
    words = ("debug", name, "--image", IMAGE, "--image-pull-policy=IfNotPresent", "--target=main")
    kubectl(*words, "-c", "look", "--", "sh", "-c", "ps; echo seen; sleep 1000")
    found = pods.until(
        name, lambda one: "running" in status(one, "look")["state"], "is looked into"
    )
    assert status(found, "main")["restartCount"] == 0
    wait_until(lambda: "seen" in kubectl("logs", name, "-c", "look"), 20, "it has spoken")
    assert "httpd" in kubectl("logs", name, "-c", "look"), "it sees the target's processes"
    assert kubectl("exec", name, "-c", "look", "--", "echo", "hello") == "hello\n"
    kubectl(*words, "-c", "once", "--", "sh", "-c", "exit 3")
    found = pods.until(name, lambda one: "terminated" in status(one, "once")["state"], "has ended")
    assert status(found, "once")["state"]["terminated"]["exitCode"] == 3
    command = [kubectl.program, "--kubeconfig", str(kubectl.kubeconfig), *words, "-i", "-c", "talk"]
    talk = subprocess.Popen(
        [*command, "--", "sh", "-c", "read word; echo got $word"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert talk.stdin is not None
    assert talk.stdout is not None
    talk.stdin.write("typed\n")
    talk.stdin.flush()
    assert talk.stdout.readline().startswith("Targeting container")
    assert "got typed\n" in [talk.stdout.readline() for _ in range(2)], "attached to what it reads"
    talk.communicate(timeout=30)
    found = pods.until(name, lambda one: "terminated" in status(one, "talk")["state"], "has ended")
    assert is_ready(found)
    assert [status(found, one)["restartCount"] for one in ("once", "talk")] == [0, 0]


def test_a_start_hook_holds_the_start_and_a_stop_hook_the_stop(
    kubectl: Kubectl, pods: Pods
) -> None:
    script = "mkdir /tmp/www; httpd -p 8080 -h /tmp/www; exec sleep 1000000"
    served = container("served", script, ports=[{"name": "web", "containerPort": 8080}])
    served["lifecycle"] = {"postStart": {"httpGet": {"port": "web"}}}
    main = container("main", STAY)
    main["lifecycle"] = {
        "postStart": run("sleep 1; echo ready > /state/started"),
        "preStop": run("echo hook > /state/ended; sleep 1; echo done >> /state/ended"),
    }
    main["volumeMounts"] = [{"name": "state", "mountPath": "/state"}]
    slept = container(
        "slept", "exec sleep 1000000", lifecycle={"preStop": {"sleep": {"seconds": 1}}}
    )
    volume = {"name": "state", "hostPath": {"path": tempfile.mkdtemp(prefix="kedge-state-")}}
    name = pods.create(pod("hooked", main, slept, volumes=[volume]))
    state = Path(volume["hostPath"]["path"])  # type: ignore[index]
    assert (state / "started").read_text() == "ready\n", "it does not run before its hook has ended"
    began = time.monotonic()
    kubectl("delete", "pod", name)
    took = time.monotonic() - began
    assert (state / "ended").read_text() == "hook\ndone\n"
    assert took < 8, "sleep ignores TERM: it is killed when the grace is over"
    pods.create(pod("asked", served))
    pods.ready("asked")


def test_hooks_that_fail_or_hang_are_named_and_no_other_pod_notices(
    kubectl: Kubectl, pods: Pods
) -> None:
    broken = container("main", STAY, lifecycle={"postStart": run("exit 4")})
    hanging = container("main", STAY, lifecycle={"postStart": run("sleep 1000000")})
    stuck = container("main", STAY, lifecycle={"preStop": run("sleep 1000000")})
    pods.create(pod("broken", broken), phase="")
    pods.create(pod("hanging", hanging), phase="")
    pods.create(pod("stuck", stuck, terminationGracePeriodSeconds=2))
    pods.create(pod("other", container("main", STAY)))
    pods.ready("other")
    pods.said("broken", "FailedPostStartHook", "exec ended with code 4")
    pods.until(
        "broken",
        lambda one: (
            status(one, "main")["state"].get("waiting", {}).get("reason")
            in ("PostStartHookError", "CrashLoopBackOff")
        ),
        "says why",
    )
    pods.said("hanging", "SlowPostStartHook")
    waiting = pods.get("hanging")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert "PostStartHook (exec)" in waiting["message"]
    for name, limit in (("hanging", 10), ("stuck", 10)):
        began = time.monotonic()
        kubectl("delete", "pod", name, "--grace-period=2")
        assert time.monotonic() - began < limit, name
    pods.said("stuck", "FailedPreStopHook", "not completed in grace period of 2s")
    assert pods.get("other")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_sidecars_start_first_serve_while_others_run_and_let_a_pod_complete(
    kubectl: Kubectl, pods: Pods
) -> None:
    state = Path(tempfile.mkdtemp(prefix="kedge-state-"))
    mount = [{"name": "state", "mountPath": "/state"}]

    def logged(name: str, **more: Any) -> dict[str, Any]:
        script = f"echo +{name} >> /state/log; trap 'echo -{name} >> /state/log; exit 0' TERM; "
        return container(
            name,
            f"{script} touch /tmp/up; while :; do sleep 0.1; done",
            restartPolicy="Always",
            volumeMounts=mount,
            **more,
        )

    initial = [
        logged("a", startupProbe=run("test -e /tmp/up") | {"periodSeconds": 1}),
        container("setup", "echo setup >> /state/log", volumeMounts=mount),
        logged("b", readinessProbe=run("test -e /tmp/up") | {"periodSeconds": 1}),
    ]
    main = container(
        "main", "echo main >> /state/log; while [ ! -e /state/end ]; do sleep 0.1; done",
        volumeMounts=mount,
    )  # fmt: skip
    volumes = [{"name": "state", "hostPath": {"path": str(state)}}]
    name = pods.create(
        pod("job", main, initContainers=initial, volumes=volumes, restartPolicy="Never")
    )
    found = pods.ready(name)
    assert [status(found, one).get("started") for one in ("a", "b", "main")] == [True] * 3
    kubectl("exec", name, "-c", "b", "--", "sh", "-c", "kill -TERM 1")
    pods.until(name, lambda one: status(one, "b")["restartCount"] == 1, "restarts its sidecar")
    pods.ready(name)
    (state / "end").touch()
    pods.until(name, lambda one: one["status"]["phase"] == "Succeeded", "completes")
    order = (state / "log").read_text().split()
    assert order == ["+a", "setup", "+b", "main", "-b", "+b", "-b", "-a"]


def test_a_probe_that_never_answers_is_bounded_and_has_its_own_grace(pods: Pods) -> None:
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    probe = run("sleep 1000000") | {"periodSeconds": 1, "failureThreshold": 1}
    probe["terminationGracePeriodSeconds"] = 1
    held = container("main", stubborn, livenessProbe=probe)
    pods.create(pod("silent", held, terminationGracePeriodSeconds=100))
    pods.create(pod("beside", container("main", STAY)))
    pods.until("silent", lambda one: status(one, "main")["restartCount"] >= 1, "is restarted")
    pods.said("silent", "Killing", "failed liveness probe, will be restarted")
    assert pods.ready("beside")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_readiness_waits_for_a_condition_that_others_write(kubectl: Kubectl, pods: Pods) -> None:
    gates = [{"conditionType": "example.com/open"}]
    name = pods.create(pod("gated", container("main", STAY), readinessGates=gates))

    def reason(found: Any) -> str:
        (ready,) = [one for one in found["status"]["conditions"] if one["type"] == "Ready"]
        return str(ready.get("reason", ""))

    pods.until(name, lambda one: reason(one) == "ReadinessGatesNotReady", "waits")
    for value, check in (("True", is_ready), ("False", lambda one: not is_ready(one))):
        patch = {"status": {"conditions": [{"type": "example.com/open", "status": value}]}}
        kubectl("patch", "pod", name, "--subresource=status", "-p", json.dumps(patch))
        pods.until(name, check, f"follows {value}")
    found = pods.get(name)
    assert any(one["type"] == "example.com/open" for one in found["status"]["conditions"])


def test_rules_deadlines_and_last_words(pods: Pods) -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    script = "[ -e /state/once ] && exit 1; touch /state/once; exit 42"
    volumes = [{"name": "state", "emptyDir": {}}]
    ruled = container(
        "main", script, restartPolicy="Never", restartPolicyRules=[rule],
        volumeMounts=[{"name": "state", "mountPath": "/state"}],
    )  # fmt: skip
    words = container(
        "main",
        "echo first; echo last words; exit 3",
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    late = pod("late", container("main", STAY), activeDeadlineSeconds=2)
    pods.create(pod("ruled", ruled, restartPolicy="Never", volumes=volumes), phase="Failed")
    pods.create(pod("words", words, restartPolicy="Never"), phase="Failed")
    pods.create(late, phase="Failed")
    found = pods.get("ruled")
    assert status(found, "main")["restartCount"] == 1
    assert status(found, "main")["lastState"]["terminated"]["exitCode"] == 42
    ended = status(pods.get("words"), "main")["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "first\nlast words")
    assert pods.get("late")["status"]["reason"] == "DeadlineExceeded"
    pods.said("late", "DeadlineExceeded", "active on the node longer than the specified deadline")


def test_an_impossible_pod_is_named_and_no_other_notices(kubectl: Kubectl, pods: Pods) -> None:
    pods.create(pod("calm", container("main", STAY)))
    broken = container("main", "x", command=["/no/such/program"])
    pods.create(pod("impossible", broken), phase="")
    pods.until(
        "impossible",
        lambda one: (
            status(one, "main")["state"].get("waiting", {}).get("reason")
            in ("RunContainerError", "CrashLoopBackOff")
        ),
        "says why",
    )
    pods.said("impossible", "Failed", "no such file")
    words = ("debug", "calm", "--image", IMAGE, "-c", "lost", "--target=nobody", "--", "true")
    refused = kubectl.run(*words, code=None)
    assert refused.returncode != 0, "the API server knows the containers"
    assert pods.ready("calm")["status"]["containerStatuses"][0]["restartCount"] == 0
