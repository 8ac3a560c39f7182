# SPDX-License-Identifier: Apache-2.0
"""How long pods take from their creation in the API to Ready seen by a watch.

One pod, 20 and 50 at once on a link of no delay, then 20 at once over a round trip of 300 ms; real
containerd, and the same sandboxes and containers driven directly over CRI in the same run as the
floor. Then the same with pods as people write them: three probes, a projected token of their own and three
more volumes, beside a floor that has mounts and probes too. Absolute times move between machines: the ratio
to the floor is the figure to compare.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import direct_cri
from bench.rig import Bench, percentile
from tests.rig.api import Api, Watch, ready_at
from tests.rig.pods import pod
from tests.rig.system import System

PODS = "/api/v1/namespaces/default/pods"
RATIOS = {1: 0.35 / 0.18, 20: 1.9 / 1.4, 50: 5.5 / 4.2}
"""What pods may take over direct CRI, by how many there are: goals and floor of one machine (design.md)."""


def full_pod(name: str) -> dict[str, Any]:
    """A pod with three probes, a token of its own audience, a ConfigMap, a Secret and an emptyDir."""
    found = pod(name)
    container = found["spec"]["containers"][0]
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 10}
    container |= {
        "startupProbe": probe | {"periodSeconds": 1},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "volumeMounts": [
            {"name": one, "mountPath": f"/{one}"} for one in ("token", "settings", "key", "work")
        ],
    }
    token = {
        "serviceAccountToken": {"path": "token", "audience": "bench", "expirationSeconds": 3600}
    }
    found["spec"]["volumes"] = [
        {"name": "token", "projected": {"sources": [token]}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "key", "secret": {"secretName": "key"}},
        {"name": "work", "emptyDir": {}},
    ]
    return found


def make_objects(system: System) -> None:
    """What ``full_pod`` mounts."""
    base = "/api/v1/namespaces/default"
    data = {"a": "b" * 100}
    system.api.create(f"{base}/configmaps", {"metadata": {"name": "settings"}, "data": data})
    system.api.create(f"{base}/secrets", {"metadata": {"name": "key"}, "stringData": data})


def start_pods(
    system: System,
    names: list[str],
    seconds: float = 120,
    shape: Callable[[str], dict[str, Any]] = pod,
) -> list[float]:
    """Creates pods at once; seconds from the first create to each one's Ready, in order."""
    watch = Watch(Api(system.kubeconfig), PODS)
    try:
        begin = time.monotonic()
        with ThreadPoolExecutor(min(8, len(names))) as pool:
            list(pool.map(lambda name: Api(system.kubeconfig).create(PODS, shape(name)), names))
        watch.wait(lambda _: len(ready_at(watch, set(names))) == len(names), seconds)
        return sorted(moment - begin for moment in ready_at(watch, set(names)).values())
    finally:
        watch.close()


def remove_pods(system: System, names: list[str]) -> None:
    """Deletes pods and waits until they are gone."""
    for name in names:
        system.api.delete(f"{PODS}/{name}")
    watch = Watch(Api(system.kubeconfig), PODS)
    try:
        watch.wait(lambda pods: not set(names) & set(pods), 120)
    finally:
        watch.close()


def measure(
    bench: Bench,
    system: System,
    count: int,
    goal: float,
    baseline: float | None,
    label: str,
    shape: Callable[[str], dict[str, Any]] = pod,
) -> float:
    """Starts and removes ``count`` pods; prints p50 and last, and when the last was gone; returns last."""
    names = [f"{label}-{number}" for number in range(count)]
    times = start_pods(system, names, shape=shape)
    begin = time.monotonic()
    remove_pods(system, names)
    bench.figure(f"{label}_gone", time.monotonic() - begin, "s")
    if count > 1:
        bench.figure(f"{label}_p50", percentile(times, 0.5), "s")
    bench.figure(f"{label}_last", times[-1], "s", goal=goal, baseline=baseline)
    return times[-1]


def main() -> int:
    bench = Bench("pod_start")
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory:
        with System(Path(directory) / "near") as system:
            start_pods(system, ["warm-up"])
            remove_pods(system, ["warm-up"])
            one = sorted(measure_one(system, f"one-{round_number}") for round_number in range(5))
            bench.figure("pods_1", percentile(one, 0.5), "s", goal=0.35, baseline=0.93)
            last = {1: percentile(one, 0.5)}
            for count, goal, baseline in ((20, 1.9, 3.52), (50, 5.5, 9.37)):
                last[count] = measure(bench, system, count, goal, baseline, f"pods-{count}")
            make_objects(system)
            start_pods(system, ["warm-up"], shape=full_pod)
            remove_pods(system, ["warm-up"])
            full = sorted(measure_one(system, f"full-{turn}", full_pod) for turn in range(5))
            bench.figure("full_pods_1", percentile(full, 0.5), "s", goal=0.35)
            last_full = {1: percentile(full, 0.5)}
            for count, goal in ((20, 1.9), (50, 5.5)):
                label = f"full-pods-{count}"
                last_full[count] = measure(bench, system, count, goal, None, label, full_pod)
            ratios(bench, system, last, "")
            ratios(bench, system, last_full, "full_")
        with System(Path(directory) / "far", delay_seconds=0.15) as system:
            start_pods(system, ["warm-up"])
            remove_pods(system, ["warm-up"])
            measure(bench, system, 20, 2.8, 11.8, "pods-20-rtt-300ms")
    return bench.finish()


def ratios(bench: Bench, system: System, last: dict[int, float], shape: str) -> None:
    """Times over those of the same pods made directly over CRI in this run: the budget's real figures."""
    floor = direct_cri.measure(system.containerd, tuple(last), full=bool(shape))
    for count, seconds in floor.items():
        bench.figure(f"direct_cri_{shape}{count}_last", seconds, "s")
        ratio = last[count] / seconds
        bench.figure(f"{shape}ratio_{count}", ratio, "x direct CRI", goal=RATIOS[count])


def measure_one(system: System, name: str, shape: Callable[[str], dict[str, Any]] = pod) -> float:
    """One pod alone: created, Ready, removed; the seconds to Ready."""
    seconds = start_pods(system, [name], shape=shape)[-1]
    remove_pods(system, [name])
    return seconds


if __name__ == "__main__":
    sys.exit(main())
