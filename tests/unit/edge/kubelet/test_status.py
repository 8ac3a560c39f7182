# SPDX-License-Identifier: Apache-2.0
"""A pod's status, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kedge.edge.kubelet.pod.state import BackOff, Failure, Health, Observed, Pod
from kedge.edge.kubelet.pod.status import Host, pod_status, qos_class
from tests.unit.edge.kubelet.builders import (
    EXITED,
    NOW,
    container,
    dying,
    observed,
    pod,
    sandbox,
    spec,
)

HOST = Host(("192.168.0.5",))
INIT = pod(spec(), initContainers=[spec("one")])
FAILURE = {"main": Failure("ErrImagePull", "no such image", NOW, NOW + 10, 10.0)}
BACK_OFF = {"main": BackOff(10, NOW - 20)}
ON_FAILURE = pod(restartPolicy="OnFailure")
NEVER = pod(restartPolicy="Never")


def status(wanted: Pod, seen: Observed, previous: dict[str, Any] | None = None) -> dict[str, Any]:
    return pod_status(wanted, seen, previous or {}, HOST, NOW)


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in found["conditions"]}


def waiting(found: dict[str, Any]) -> str:
    return str(found["containerStatuses"][0]["state"]["waiting"]["reason"])


PHASES = [
    ("nothing yet", pod(), observed(sandboxes=()), "Pending", "False"),
    ("starting", pod(), observed(), "Pending", "False"),
    ("initial container runs", INIT, observed(container("one")), "Pending", "False"),
    ("running", pod(), observed(container()), "Running", "True"),
    ("one of two runs", pod(spec("a"), spec("b")), observed(container("a")), "Pending", "False"),
    ("crashed, will restart", pod(), observed(container(state=EXITED, code=1)), "Running", "False"),
    ("done", ON_FAILURE, observed(container(state=EXITED)), "Succeeded", "False"),
    ("failed for good", NEVER, observed(container(state=EXITED, code=1)), "Failed", "False"),
    ("initial container failed for good", pod(spec(), initContainers=[spec("one")], restartPolicy="Never"), observed(container("one", EXITED, code=1)), "Failed", "False"),
    ("stopped because it is deleted", dying(), observed(container(state=EXITED, code=137)), "Failed", "False"),
    ("over its deadline, still running", pod(activeDeadlineSeconds=50), observed(container()), "Running", "True"),
    ("over its deadline", pod(activeDeadlineSeconds=50), observed(container(state=EXITED, code=137)), "Failed", "False"),
    ("done, but a sidecar still runs", pod(spec(), initContainers=[spec("proxy", restartPolicy="Always")], restartPolicy="Never"), observed(container(state=EXITED), container("proxy")), "Running", "False"),
    ("done, and the sidecar has ended", pod(spec(), initContainers=[spec("proxy", restartPolicy="Always")], restartPolicy="Never"), observed(container(state=EXITED), container("proxy", EXITED, code=143)), "Succeeded", "False"),
    ("a sidecar is not ready", pod(spec(), initContainers=[spec("proxy", restartPolicy="Always", readinessProbe={})]), observed(container(), container("proxy"), health={"proxy-0": Health(ready=False)}), "Running", "False"),
    ("not ready by its probe", pod(spec(readinessProbe={})), observed(container(), health={"main-0": Health(ready=False)}), "Running", "False"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "seen", "phase", "ready"),
    [one[1:] for one in PHASES],
    ids=[one[0] for one in PHASES],
)
def test_phase_and_readiness(wanted: Pod, seen: Observed, phase: str, ready: str) -> None:
    found = status(wanted, seen)
    assert (found["phase"], conditions(found)["Ready"]) == (phase, ready)


def test_a_failed_start_is_the_reason_of_waiting() -> None:
    assert waiting(status(pod(), observed(failures=FAILURE))) == "ErrImagePull"


def test_a_crashing_container_says_how_long_it_waits() -> None:
    found = status(
        pod(), observed(container(state=EXITED, code=1, ended=NOW - 3), back_offs=BACK_OFF)
    )
    state = found["containerStatuses"][0]
    assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert "back-off 10s restarting failed container=main pod=web_default(u1)" in str(state)
    assert state["lastState"]["terminated"]["exitCode"] == 1


def test_regular_containers_wait_for_the_initial_ones() -> None:
    assert waiting(status(INIT, observed(container("one")))) == "PodInitializing"


def test_a_condition_keeps_its_time_while_it_holds() -> None:
    first = pod_status(pod(), observed(container()), {}, HOST, NOW)
    later = pod_status(pod(), observed(container()), first, HOST, NOW + 60)
    assert later == first


def test_addresses_are_those_of_the_sandbox_and_of_the_node() -> None:
    found = status(pod(), observed(container()))
    assert (found["podIP"], found["hostIP"]) == ("10.1.0.7", "192.168.0.5")
    assert status(pod(hostNetwork=True), observed(container()))["podIP"] == "192.168.0.5"


def test_a_dead_sandbox_is_not_ready_to_start_containers() -> None:
    found = status(pod(), observed(container(), sandboxes=(sandbox(ready=False),)))
    assert conditions(found)["PodReadyToStartContainers"] == "False"


def test_an_expired_token_is_marked_and_its_renewal_too() -> None:
    marked = status(pod(), observed(container(), token_expired=True))
    assert conditions(marked)["kedge.io/ServiceAccountTokenExpired"] == "True"
    renewed = status(pod(), observed(container()), marked)
    assert conditions(renewed)["kedge.io/ServiceAccountTokenExpired"] == "False"
    assert "kedge.io/ServiceAccountTokenExpired" not in conditions(
        status(pod(), observed(container()))
    )


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"memory": "1Gi"}}, "Burstable"),
    ],
)
def test_qos_class(resources: dict[str, Any], wanted: str) -> None:
    assert qos_class(pod(spec(resources=resources))) == wanted


def gated(*known: tuple[str, str]) -> dict[str, Any]:
    made = [{"type": kind, "status": value} for kind, value in known]
    return pod(readinessGates=[{"conditionType": "a/b"}]) | {"status": {"conditions": made}}


def test_readiness_waits_for_its_gates_and_never_reports_them() -> None:
    def ready(*known: tuple[str, str]) -> dict[str, Any]:
        found = status(gated(*known), observed(container()))["conditions"]
        assert "a/b" not in {one["type"] for one in found}
        assert {one["type"]: one["status"] for one in found}["ContainersReady"] == "True"
        return next(one for one in found if one["type"] == "Ready")

    absent = ready()
    assert (absent["status"], absent["reason"]) == ("False", "ReadinessGatesNotReady")
    assert absent["message"].endswith('gate "a/b" does not exist.')
    assert ready(("a/b", "False"))["message"].endswith('"a/b" is not "True", but False')
    assert ready(("a/b", "True"))["status"] == "True"


def test_an_ended_pod_is_not_late_afterwards() -> None:
    wanted = pod(restartPolicy="Never", activeDeadlineSeconds=50)
    seen = observed(container(state=EXITED))
    found = status(wanted, seen, {"phase": "Succeeded"})
    assert (found["phase"], found.get("reason")) == ("Succeeded", None)
    late = status(wanted, seen)
    assert (late["phase"], late["reason"]) == ("Failed", "DeadlineExceeded")
    again = status(wanted, seen, late)
    assert (again["phase"], again["reason"]) == ("Failed", "DeadlineExceeded")


def test_ephemeral_containers_have_statuses_of_their_own() -> None:
    wanted = pod(ephemeralContainers=[spec("look")])
    found = status(wanted, observed(container(), container("look")))
    (look,) = found["ephemeralContainerStatuses"]
    assert ("running" in look["state"], look["ready"], "started" in look) == (True, False, False)
    assert conditions(found)["Ready"] == "True"
    (waits,) = status(wanted, observed(container()))["ephemeralContainerStatuses"]
    assert waits["state"]["waiting"]["reason"] == "ContainerCreating"


def test_termination_messages_share_what_a_pod_may_say() -> None:
    ended = replace(container(state=EXITED, code=1), message="ü" * 5000)
    alone = status(NEVER, observed(ended))["containerStatuses"][0]
    assert len(alone["state"]["terminated"]["message"].encode()) == 10000
    several = pod(*[spec(name) for name in ("main", "b", "c", "d")], restartPolicy="Never")
    first = status(several, observed(ended))["containerStatuses"][0]
    assert len(first["state"]["terminated"]["message"].encode()) == 3072


def test_conditions_say_of_which_generation_they_are() -> None:
    found = status(pod(metadata={"generation": 4}), observed(container()))
    assert found["observedGeneration"] == 4
    assert {one["observedGeneration"] for one in found["conditions"]} == {4}
