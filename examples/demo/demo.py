# SPDX-License-Identifier: Apache-2.0
"""The main job, with real programs, step by step; exits 0 only if every step was seen to hold.

A control plane, a node joined to it over one encrypted connection, a Deployment as containerd
containers, a command and a log of one of them, the link cut, the node rebooted without its cloud, the link back and only the differences
sent. Everything lives in a temporary directory and is gone at the end.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.rig import rss_bytes
from tests.rig.api import Api, Watch, is_ready
from tests.rig.processes import children, wait_until
from tests.rig.system import System

REPLICAS = 5
MANIFEST = Path(__file__).resolve().parents[1] / "web.yaml"


class Report:
    """Prints each step as it holds, and counts."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.steps = 0

    def step(self, text: str) -> None:
        """One step that was seen to hold."""
        self.steps += 1
        print(f"{self.steps:2}. [{time.monotonic() - self.begin:5.1f} s] {text}", flush=True)


def check(holds: object, what: str) -> None:
    """Ends the demo unless something holds."""
    if not holds:
        raise SystemExit(f"demo: this did not hold: {what}")


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def web_pods(system: System) -> dict[str, dict[str, str]]:
    """What must not change of a healthy pod: its uid, container and restarts, by name."""
    return {
        pod["metadata"]["name"]: {
            "uid": pod["metadata"]["uid"],
            "container": pod["status"]["containerStatuses"][0]["containerID"],
            "restarts": str(pod["status"]["containerStatuses"][0]["restartCount"]),
        }
        for pod in system.pods()
    }


def all_ready(count: int) -> Callable[[dict], bool]:
    """Whether exactly ``count`` pods exist and are Ready."""
    return lambda pods: len(pods) == count and all(is_ready(pod) for pod in pods.values())


def reach_inside(system: System, pod: str, report: Report) -> None:
    """A command in a container, and what it writes to the log, through the node's one connection."""
    word = f"hello-{time.monotonic_ns()}"
    speak = f"cat /etc/web/greeting; echo {word} > /proc/1/fd/1"
    said = ""

    def run() -> None:
        nonlocal said
        said = system.kubectl("exec", pod, "--", "sh", "-c", speak)

    seconds = timed(run)
    check(said.strip(), "kubectl exec shows a file of the container")
    wait_until(lambda: word in system.kubectl("logs", pod), 20, "kubectl logs shows what was said")
    report.step(f"kubectl exec and kubectl logs reach the pod ({seconds:.2f} s for the command)")


def story(system: System, report: Report) -> None:
    seconds = timed(system.start)
    report.step(
        f"control plane up, node joined through one TLS connection and Ready, in {seconds:.1f} s"
    )
    nodes = system.kubectl("get", "nodes")
    check("Ready" in nodes and system.node_name in nodes, "kubectl get nodes shows the node Ready")
    print("\n".join(f"      {line}" for line in nodes.splitlines()))

    pods = Watch(Api(system.kubeconfig), "/api/v1/namespaces/default/pods")
    begin = time.monotonic()
    system.kubectl("apply", "-f", str(MANIFEST))
    last = pods.wait(all_ready(REPLICAS), 60) - begin
    check(len(system.running_containers()) == REPLICAS, "containerd runs one container per pod")
    report.step(
        f"kubectl apply: {REPLICAS} pods Ready as containerd containers, last after {last:.2f} s"
    )

    agent = system.edge.pid if system.edge else 0
    memory = sum(rss_bytes(pid) for pid in [agent, *children(agent)]) / 1e6
    control = system.control.pid if system.control else 0
    plane = sum(rss_bytes(pid) for pid in [control, *children(control)]) / 1e6
    report.step(f"memory: node agent {memory:.1f} MB, whole control plane {plane:.1f} MB")

    before = web_pods(system)
    reach_inside(system, next(iter(before)), report)
    system.cut_link()
    wait_until(
        lambda: system.status()["link"]["state"] != "connected", 40, "the node notices the cut"
    )
    report.step("link cut; the node knows it (kedge status), and its pods run on")
    victim = next(iter(before.values()))["container"].split("://")[1]
    system.containerd.ctr("tasks", "kill", "--signal", "SIGKILL", victim)
    wait_until(
        lambda: (
            victim not in system.running_containers()
            and len(system.running_containers()) == REPLICAS
        ),
        40,
        "a killed container is started again without the cloud",
    )
    report.step("a container was killed meanwhile: started again without the cloud")

    seconds = system.reboot_node(running=REPLICAS, seconds=60)
    report.step(
        f"node rebooted without its cloud (runtime empty): all {REPLICAS} pods run again after {seconds:.2f} s"
    )
    running = set(system.running_containers())

    system.kubectl("create", "configmap", "unrelated", "--from-literal=a=b")
    system.kubectl(
        "patch",
        "configmap",
        "web",
        "--type=merge",
        "-p",
        json.dumps({"data": {"greeting": "again"}}),
    )
    gone = sorted(before)[0]
    system.kubectl("delete", "pod", gone, "--wait=false")
    sent = system.link_bytes()
    begin = time.monotonic()
    system.restore_link()
    wait_until(
        lambda: system.status()["link"]["state"] == "connected",
        60,
        "the node is connected",
        poll=0.02,
    )
    seconds = time.monotonic() - begin
    pods.wait(lambda found: gone not in found and all_ready(REPLICAS)(found), 60)
    time.sleep(2)
    kept = running & set(system.running_containers())
    check(len(kept) == REPLICAS - 1, "every pod that nobody changed kept its container")
    after = web_pods(system)
    same = [name for name in after if name in before and after[name]["uid"] == before[name]["uid"]]
    check(len(same) == REPLICAS - 1, "every pod that nobody deleted is the same pod")
    report.step(
        f"link back, connected after {seconds:.2f} s; the deleted pod is gone and replaced, "
        f"{REPLICAS - 1} kept their containers; {(system.link_bytes() - sent) / 1000:.1f} KB crossed the link"
    )
    volume = "/etc/web/greeting"
    container = sorted(kept)[0]
    wait_until(
        lambda: (
            system.containerd.ctr(
                "tasks",
                "exec",
                "--exec-id",
                f"demo-{time.monotonic_ns()}",
                container,
                "cat",
                volume,
            )
            == "again"
        ),
        20,
        "the changed ConfigMap reached a running pod",
    )
    report.step("the ConfigMap changed meanwhile is in the running pods, which were not restarted")

    pods_gone = timed(
        lambda: (
            system.kubectl("delete", "deployment", "web", "--wait=true"),
            pods.wait(lambda found: not found, 60),
            wait_until(lambda: not system.containerd.all_containers(), 30, "no container is left"),
        )
    )
    pods.close()
    report.step(f"kubectl delete: pods and containers gone after {pods_gone:.1f} s")


def main() -> int:
    report = Report()
    with tempfile.TemporaryDirectory(prefix="kedge-demo-") as directory:
        system = System(Path(directory))
        try:
            story(system, report)
        except BaseException:
            for name in ("control", "edge"):
                process = getattr(system, name)
                if process is not None:
                    print(f"--- last lines of {name}.log\n{process.tail(25)}", file=sys.stderr)
            raise
        finally:
            system.stop()
        check(not system.containerd.shims(), "nothing is left running")
    report.step("everything removed")
    print(
        f"\nkedge demo: all {report.steps} steps held, in {time.monotonic() - report.begin:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
