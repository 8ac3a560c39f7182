# SPDX-License-Identifier: Apache-2.0
"""The plan of a pod, case by case."""

from __future__ import annotations

import pytest

from kedge.edge.kubelet.pod.plan import (
    Action,
    CleanUp,
    CreateSandbox,
    KillContainer,
    PrepareVolumes,
    RemoveContainer,
    RemoveSandbox,
    RunStopHook,
    StartContainer,
    StopSandbox,
    Wait,
    plan,
)
from kedge.edge.kubelet.pod.state import BackOff, Container, Failure, Health, Observed, Pod
from tests.unit.edge.kubelet.builders import (
    CREATED,
    EXITED,
    NOW,
    RUNNING,
    UNKNOWN,
    container,
    dying,
    observed,
    pod,
    sandbox,
    spec,
)

FIRST_BACK_OFF = BackOff(10.0, NOW)
NO_SANDBOX: tuple[()] = ()
TWO = pod(spec("a"), spec("b"))
INIT = pod(spec(), initContainers=[spec("one"), spec("two")])
SIDECAR = pod(spec(), initContainers=[spec("proxy", restartPolicy="Always"), spec("two")])
PROXIES = [spec(name, restartPolicy="Always") for name in ("first", "last")]
HOOKED = spec("proxy", restartPolicy="Always", lifecycle={"preStop": {"sleep": {"seconds": 1}}})
DEBUGGED = pod(spec(), ephemeralContainers=[spec("look")])
RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
RULED = pod(spec(restartPolicy="Never", restartPolicyRules=[RULE]), restartPolicy="Never")
PROBED = pod(
    spec(
        startupProbe={"terminationGracePeriodSeconds": 5},
        livenessProbe={"terminationGracePeriodSeconds": 3},
    )
)
LOST = Container(
    id="gone", name="main", attempt=3, state=EXITED, exit_code=137, finished_at=NOW - 5
)
CHANGED = "Container main definition changed, will be restarted"
UNHEALTHY = "Container main failed liveness probe, will be restarted"


def start(
    name: str = "main", attempt: int = 0, back_off: BackOff | None = None, sandbox_id: str = "s0"
) -> StartContainer:
    return StartContainer(name, attempt, sandbox_id, back_off)


def kill(
    name: str = "main", grace: int = 30, attempt: int = 0, message: str = "", **more: bool
) -> KillContainer:
    return KillContainer(
        f"{name}-{attempt}", name, grace, message or f"Stopping container {name}", **more
    )


def failed(reason: str = "ErrImagePull", due: float = NOW + 5) -> Failure:
    return Failure(reason, "why", NOW - 5, due, 10.0)


CASES: list[tuple[str, Pod, Observed, tuple[Action, ...]]] = [
    ("volumes come first", pod(), Observed(), (PrepareVolumes(),)),
    ("a missing volume waits", pod(), Observed(failures={"volumes": failed()}), (Wait(NOW + 5),)),
    ("a volume is tried again when due", pod(), Observed(failures={"volumes": failed(due=NOW)}), (PrepareVolumes(),)),
    ("then the sandbox", pod(), observed(sandboxes=NO_SANDBOX), (CreateSandbox(0),)),
    ("a sandbox in the making is left alone", pod(), observed(sandboxes=NO_SANDBOX, busy=frozenset({"sandbox"})), ()),
    ("a failed sandbox waits", pod(), observed(sandboxes=NO_SANDBOX, failures={"sandbox": failed()}), (Wait(NOW + 5),)),
    ("a dead sandbox is removed first", pod(), observed(sandboxes=(sandbox(ready=False),)), (RemoveSandbox("s0"),)),
    ("an older sandbox is removed", pod(), observed(sandboxes=(sandbox(1), sandbox(0))), (RemoveSandbox("s0"),)),
    ("all regular containers start at once", TWO, observed(), (start("a"), start("b"))),
    ("one that is starting is left alone", TWO, observed(busy=frozenset({"a"})), (start("b"),)),
    ("a healthy pod needs nothing", TWO, observed(container("a"), container("b")), ()),
    ("the first initial container starts alone", INIT, observed(), (start("one"),)),
    ("a running initial container is awaited", INIT, observed(container("one")), ()),
    ("the next follows the end of the first", INIT, observed(container("one", EXITED)), (start("two"),)),
    ("a failed initial container runs again", INIT, observed(container("one", EXITED, code=1)), (start("one", 1, FIRST_BACK_OFF),)),
    ("regular ones follow the last initial one", INIT, observed(container("one", EXITED), container("two", EXITED)), (start(),)),
    ("initial ones are not run again beside running regular ones", INIT, observed(container()), ()),
    (
        "a new sandbox runs initial containers again",
        INIT,
        observed(container("one", EXITED), container("two", EXITED), container("main", EXITED), sandboxes=(sandbox(1),)),
        (start("one", 1, FIRST_BACK_OFF, "s1"),),
    ),
    ("a sidecar starts first", SIDECAR, observed(), (start("proxy"),)),
    ("a running sidecar lets the next start", SIDECAR, observed(container("proxy")), (start("two"),)),
    ("a sidecar that ended runs again", SIDECAR, observed(container("proxy", EXITED), container()), (start("proxy", 1, FIRST_BACK_OFF),)),
    ("the first restart is at once", pod(), observed(container(state=EXITED, code=1)), (start(attempt=1, back_off=FIRST_BACK_OFF),)),
    (
        "the second waits ten seconds after its end",
        pod(),
        observed(container(state=EXITED, attempt=1, code=1, ended=NOW - 3), back_offs={"main": BackOff(10, NOW - 4)}),
        (Wait(NOW + 7),),
    ),
    (
        "the back-off doubles",
        pod(),
        observed(container(state=EXITED, attempt=1, code=1, ended=NOW - 10), back_offs={"main": BackOff(10, NOW - 20)}),
        (start(attempt=2, back_off=BackOff(20, NOW)),),
    ),
    (
        "the back-off ends at five minutes",
        pod(),
        observed(container(state=EXITED, attempt=9, code=1, ended=NOW - 300), back_offs={"main": BackOff(300, NOW - 400)}),
        (start(attempt=10, back_off=BackOff(300, NOW)),),
    ),
    (
        "ten quiet minutes reset the back-off",
        pod(),
        observed(container(state=EXITED, attempt=9, code=1), back_offs={"main": BackOff(300, NOW - 601)}),
        (start(attempt=10, back_off=FIRST_BACK_OFF),),
    ),
    ("OnFailure restarts a failure", pod(restartPolicy="OnFailure"), observed(container(state=EXITED, code=2)), (start(attempt=1, back_off=FIRST_BACK_OFF),)),
    ("OnFailure leaves a success, and the sandbox stops", pod(restartPolicy="OnFailure"), observed(container(state=EXITED)), (StopSandbox("s0"),)),
    ("Never leaves a failure", pod(restartPolicy="Never"), observed(container(state=EXITED, code=2)), (StopSandbox("s0"),)),
    ("a finished pod without a sandbox stays", pod(restartPolicy="Never"), observed(container(state=EXITED), sandboxes=(sandbox(ready=False),)), ()),
    ("Never awaits the other containers", pod(spec("a"), spec("b"), restartPolicy="Never"), observed(container("a", EXITED), container("b")), ()),
    (
        "a failed initial container ends a pod that never restarts",
        pod(spec(), initContainers=[spec("one")], restartPolicy="Never"),
        observed(container("one", EXITED, code=1)),
        (StopSandbox("s0"),),
    ),
    ("a pull that failed waits", pod(), observed(failures={"main": failed()}), (Wait(NOW + 5),)),
    ("a pull that failed is tried again", pod(), observed(failures={"main": failed(due=NOW)}), (start(),)),
    ("a changed image replaces the container", pod(), observed(container(image="busybox:0")), (kill(message=CHANGED, is_replaced=True),)),
    ("and only once", pod(), observed(container(image="busybox:0"), kills={"main-0": NOW + 20}), ()),
    (
        "what was replaced starts again under any policy",
        pod(restartPolicy="Never"),
        observed(container(state=EXITED, image="busybox:0"), replaced=frozenset({"main-0"})),
        (start(attempt=1, back_off=FIRST_BACK_OFF),),
    ),
    ("a container that is not alive is stopped", pod(), observed(container(), health={"main-0": Health(alive=False, message="failed liveness probe")}), (kill(message=UNHEALTHY),)),
    (
        "a liveness probe has its own grace",
        pod(spec(livenessProbe={"terminationGracePeriodSeconds": 3})),
        observed(container(), health={"main-0": Health(alive=False, message="failed liveness probe")}),
        (kill(grace=3, message=UNHEALTHY),),
    ),
    (
        "and so has a startup probe",
        PROBED,
        observed(container(), health={"main-0": Health(alive=False, message="failed startup probe", probe="startup")}),
        (kill(grace=5, message="Container main failed startup probe, will be restarted"),),
    ),
    ("an ephemeral container starts beside the others", DEBUGGED, observed(container()), (start("look"),)),
    ("and while the pod still initializes", pod(spec(), initContainers=[spec("one")], ephemeralContainers=[spec("look")]), observed(container("one")), (start("look"),)),
    ("and only once, however it ended", DEBUGGED, observed(container(), container("look", EXITED, code=1)), ()),
    ("its image may be pulled again later", DEBUGGED, observed(container(), failures={"look": failed()}), (Wait(NOW + 5),)),
    ("it is not replaced when its image is another", DEBUGGED, observed(container(), container("look", image="busybox:0")), ()),
    ("it does not keep a finished pod alive", DEBUGGED | {"spec": DEBUGGED["spec"] | {"restartPolicy": "Never"}}, observed(container(state=EXITED), container("look")), (kill("look"),)),
    ("it ends with the others", dying(spec(), ephemeralContainers=[spec("look")]), observed(container(), container("look")), (kill(), kill("look"))),
    ("a rule restarts what matches it", RULED, observed(container(state=EXITED, code=42)), (start(attempt=1, back_off=FIRST_BACK_OFF),)),
    ("and leaves the rest to the container's policy", RULED, observed(container(state=EXITED, code=1)), (StopSandbox("s0"),)),
    ("a container's own policy counts before the pod's", pod(spec(restartPolicy="OnFailure")), observed(container(state=EXITED)), (StopSandbox("s0"),)),
    ("one that is not ready is left alone", pod(), observed(container(), health={"main-0": Health(ready=False)}), ()),
    ("what was created and never started is removed", pod(), observed(container(state=CREATED)), (RemoveContainer("main-0", "main"),)),
    (
        "an unknown container is ended",
        pod(),
        observed(container(state=UNKNOWN)),
        (kill(grace=0, message="Container main is in an unknown state, will be restarted"),),
    ),
    (
        "the dead beyond the last two are removed",
        pod(),
        observed(container(attempt=3), *(container(state=EXITED, attempt=one) for one in (0, 1, 2))),
        (RemoveContainer("main-1", "main"), RemoveContainer("main-0", "main")),
    ),
    ("an empty runtime begins anew", pod(), observed(LOST, sandboxes=NO_SANDBOX), (CreateSandbox(0),)),
    ("and counts on from the last report", pod(), observed(LOST), (start(attempt=4, back_off=FIRST_BACK_OFF),)),
    ("what never restarts is not run twice", pod(restartPolicy="Never"), observed(LOST, sandboxes=NO_SANDBOX), ()),
    ("what the API has as ended is not run again", pod() | {"status": {"phase": "Succeeded"}}, observed(sandboxes=NO_SANDBOX), ()),
    ("a deleted pod's containers are stopped", dying(spec("a"), spec("b")), observed(container("a"), container("b")), (kill("a"), kill("b"))),
    ("with the grace that was asked", dying(grace=2), observed(container()), (kill(grace=2),)),
    ("a stop that runs is awaited", dying(), observed(container(), kills={"main-0": NOW + 20}), ()),
    ("a shorter grace is asked again", dying(grace=1), observed(container(), kills={"main-0": NOW + 20}), (kill(grace=1),)),
    ("a start that runs is awaited", dying(), observed(busy=frozenset({"main"})), ()),
    ("then the sandbox goes", dying(), observed(container(state=EXITED)), (RemoveSandbox("s0"),)),
    ("then the rest", dying(), observed(sandboxes=NO_SANDBOX), (CleanUp(),)),
    ("sidecars are stopped last", dying(spec(), initContainers=[spec("proxy", restartPolicy="Always")]), observed(container(), container("proxy")), (kill(),)),
    ("then sidecars end one by one, the last first", dying(spec(), initContainers=PROXIES), observed(container("first"), container("last")), (kill("last"),)),
    ("the first one last", dying(spec(), initContainers=PROXIES), observed(container("first"), container("last", EXITED)), (kill("first"),)),
    ("in what is left of the grace", dying(spec(), initContainers=PROXIES), observed(container("first"), ending_since=NOW - 12), (kill("first", grace=18),)),
    ("but never less than two seconds", dying(spec(), initContainers=PROXIES), observed(container("first"), ending_since=NOW - 90), (kill("first", grace=2),)),
    ("unless there is no grace at all", dying(spec(), initContainers=PROXIES, grace=0), observed(container("first"), ending_since=NOW - 90), (kill("first", grace=0),)),
    ("a stop of a sidecar is not asked for again while its grace runs out", dying(spec(), initContainers=PROXIES), observed(container("first"), ending_since=NOW - 12, kills={"first-0": NOW + 18.6}), ()),
    ("a waiting sidecar's hook runs at once", dying(spec(), initContainers=[HOOKED]), observed(container(), container("proxy")), (kill(), RunStopHook("proxy-0", "proxy", 30))),
    ("and only once", dying(spec(), initContainers=[HOOKED]), observed(container(), container("proxy"), hooked=frozenset({"proxy-0"})), (kill(),)),
    ("a finished pod's sidecars are stopped", pod(spec(), initContainers=PROXIES, restartPolicy="OnFailure"), observed(container(state=EXITED), container("first"), container("last")), (kill("last"),)),
    ("a sidecar that ended meanwhile stays ended", pod(spec(), initContainers=PROXIES, restartPolicy="OnFailure"), observed(container(state=EXITED), container("first"), container("last", EXITED)), (kill("first"),)),
    ("a cleaned pod needs nothing", dying(), observed(sandboxes=NO_SANDBOX, is_cleaned=True), ()),
    ("a vanished pod is stopped alike", pod(), observed(container(), is_gone=True), (kill(),)),
    ("a stop that failed waits", dying(), observed(container(), failures={"main-0": failed()}), (Wait(NOW + 5),)),
    ("the deadline stops containers", pod(activeDeadlineSeconds=50), observed(container()), (kill(message="Pod was active on the node longer than the specified deadline"),)),
    ("the deadline is awaited", pod(activeDeadlineSeconds=150), observed(container()), (Wait(NOW + 50),)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "seen", "actions"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_plan(wanted: Pod, seen: Observed, actions: tuple[Action, ...]) -> None:
    assert plan(wanted, seen, NOW) == actions


def test_plan_of_a_running_pod_ignores_fields_that_a_newer_server_fills_in() -> None:
    desired = pod(
        spec(terminationMessagePath="/dev/termination-log", imagePullPolicy="IfNotPresent")
    )
    assert plan(desired, observed(container(state=RUNNING)), NOW) == ()
