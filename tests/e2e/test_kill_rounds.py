# SPDX-License-Identifier: Apache-2.0
"""Any process killed at any moment of a rollout, thirty times over: all converges, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.rig.api import Failed, is_ready
from tests.rig.pods import deployment
from tests.rig.processes import children, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = 30
VICTIMS = ("cluster", "cloud", "edge", "shim")
REPLICAS = 3
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/web"
LEDGER = "/api/v1/namespaces/default/configmaps"


def role(system: System, module: str) -> int:
    """The process id of a role below ``kedge up``."""
    for pid in children(system.control.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if module.encode() in words:
            return pid
    raise ProcessLookupError(module)


def kill(system: System, victim: str, chance: random.Random) -> None:
    if victim == "edge":
        system.edge.kill()
        system.start_edge()
    elif victim == "shim":
        shims = system.containerd.shims()
        if shims:
            os.kill(chance.choice(shims), signal.SIGKILL)
    else:
        os.kill(role(system, f"kedge.{victim}"), signal.SIGKILL)


def patient(call):
    """What ``call`` answers, once the API server does; a refused compare-and-swap is tried again."""

    def attempt():
        try:
            return (call(),)
        except (OSError, Failed):
            return None

    return wait_until(attempt, 60, "the API server answers")[0]


def converged(system: System, generation: str) -> bool:
    """Exactly the wanted pods, all of the newest template and Ready, and their containers alone."""
    try:
        pods = system.pods()
    except (OSError, Failed):
        return False
    newest = [
        pod
        for pod in pods
        if pod["spec"]["containers"][0].get("env", [{}])[0].get("value") == generation
        and is_ready(pod)
    ]
    if len(pods) != REPLICAS or len(newest) != REPLICAS:
        return False
    wanted = {pod["metadata"]["uid"] for pod in pods}
    running = system.running_containers()
    owners = [system.containerd.labels(container)["io.kubernetes.pod.uid"] for container in running]
    return sorted(owners) == sorted(wanted)


def explain(system: System) -> str:
    """What a person would look at when a round does not converge."""
    log = (system.directory / "runtime" / "containerd.log").read_text().splitlines()
    return "\n".join(
        [
            system.kubectl("get", "pods", "-o", "wide"),
            system.kubectl("describe", "pods")[-6000:],
            system.containerd.ctr("tasks", "list"),
            system.containerd.ctr("containers", "list"),
            system.edge.tail(60),
            *log[-40:],
        ]
    )


def test_a_rollout_converges_whatever_is_killed_and_no_acknowledged_write_is_lost(tmp_path):
    seed = int(os.environ.get("KEDGE_SEED", time.time_ns() % 1_000_000))
    print(f"KEDGE_SEED={seed}")
    chance = random.Random(seed)
    with System(tmp_path) as system:
        wanted = deployment("web", REPLICAS)
        wanted["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": "ROUND", "value": "0"}
        ]
        system.api.create("/apis/apps/v1/namespaces/default/deployments", wanted)
        wait_until(lambda: converged(system, "0"), 60, "the first rollout is done")
        acknowledged = []
        for number in range(1, ROUNDS + 1):
            change = [
                {
                    "op": "replace",
                    "path": "/spec/template/spec/containers/0/env/0/value",
                    "value": str(number),
                }
            ]
            patient(
                lambda change=change: system.api.request(
                    "PATCH", DEPLOYMENT, change, "application/json-patch+json"
                )
            )
            name = f"entry-{number}"
            entry = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"n": str(number)},
            }
            victim = chance.choice(VICTIMS)
            deadline = time.monotonic() + chance.uniform(0.0, 1.5)
            # writes go on up to the very moment of the kill
            while time.monotonic() < deadline:
                count = len(acknowledged)
                entry["metadata"]["name"] = f"{name}-{count}"
                system.api.create(LEDGER, entry)
                acknowledged.append(entry["metadata"]["name"])
                time.sleep(0.02)
            kill(system, victim, chance)
            what = f"round {number} converges after the {victim} was killed (KEDGE_SEED={seed})"
            try:
                wait_until(lambda number=number: converged(system, str(number)), 90, what, poll=0.3)
            except TimeoutError as error:
                raise AssertionError(f"{error}\n{explain(system)}") from error
        found = {
            item["metadata"]["name"] for item in patient(lambda: system.api.get(LEDGER))["items"]
        }
        assert set(acknowledged) <= found
        system.api.delete(DEPLOYMENT)
        wait_until(
            lambda: not system.containerd.all_containers(), 60, "no container or sandbox is left"
        )
