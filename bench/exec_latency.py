# SPDX-License-Identifier: Apache-2.0
"""Streams through the link: what an exec costs over the runtime's own, and a log that is followed.

An exec is timed from the request until its verdict is read: through API server, hub, link, agent and
runtime, with TLS and a connection of its own, as kubectl has; and directly, from the call of CRI's
Exec with the same WebSocket client at the runtime's streaming server. They alternate, so that the
machine's other work falls on both, with a pause after each: the runtime clears up after an exec when its
verdict has been given, and the API server makes its next connection; neither is left to the other's time. The node dials the hub
itself: the link simulator of the other benches would run in this process, beside the client.

The log grows by 52 MB/s for a while (written into the container's log file in CRI's format, which spares
the measure the runtime's own speed), is rotated by the agent meanwhile, and read through the API; the
agent's memory is sampled all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import websocket

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from bench.direct_cri import connected
from bench.pod_start import start_pods
from bench.rig import Bench, percentile, rss_bytes
from tests.rig.api import Credentials
from tests.rig.system import System

ROUNDS = 120
PAUSE_SECONDS = 0.15
WARM = 5
LOG_SECONDS = 12.0
LOG_BYTES_PER_SECOND = 52_000_000
SLICE_SECONDS = 0.05
# Longer than from one trimming of the agent to the next: what comes and goes with that is no growth.
QUIET_SECONDS = 12.0
LINE = "2026-01-01T00:00:00.000000000Z stdout F " + "x" * 983 + "\n"
ERROR_CHANNEL = 3


def verdict(url: str, options: dict[str, Any]) -> None:
    """Runs what a WebSocket URL of exec runs; returns when it has ended well."""
    stream = websocket.create_connection(
        url, subprotocols=["v4.channel.k8s.io"], timeout=30, **options
    )
    try:
        while True:
            message = stream.recv()
            if message and message[0] == ERROR_CHANNEL:
                assert json.loads(message[1:])["status"] == "Success", message
                return
    finally:
        stream.shutdown()


def through(system: System, context: ssl.SSLContext) -> float:
    """Seconds of one exec through the link."""
    query = urllib.parse.urlencode([("command", "true"), ("stdout", "1"), ("stderr", "1")])
    path = f"/api/v1/namespaces/default/pods/pod-0/exec?{query}"
    begin = time.perf_counter()
    verdict(f"wss://127.0.0.1:{system.api_port}{path}", {"sslopt": {"context": context}})
    return time.perf_counter() - begin


async def latencies(system: System) -> tuple[list[float], list[float]]:
    """Seconds of execs: through the link, and directly."""
    context = Credentials.load(system.kubeconfig).context
    container = system.running_containers()[0]
    linked, direct = [], []
    async with connected(system.containerd.endpoint) as runtime:
        for at in range(ROUNDS + WARM):
            one = await asyncio.to_thread(through, system, context)
            await asyncio.sleep(PAUSE_SECONDS)
            begin = time.perf_counter()
            url = await runtime.exec(
                container, ["true"], tty=False, stdin=False, stdout=True, stderr=True
            )
            await asyncio.to_thread(verdict, url.replace("http", "ws", 1), {})
            other = time.perf_counter() - begin
            await asyncio.sleep(PAUSE_SECONDS)
            if at >= WARM:
                linked.append(one)
                direct.append(other)
    return linked, direct


def write_log(path: Path, until: float) -> int:
    """Writes lines at the wanted pace until then; how many bytes."""
    block = (LINE * (int(LOG_BYTES_PER_SECOND * SLICE_SECONDS) // len(LINE))).encode()
    written, due = 0, time.monotonic()
    while time.monotonic() < until:
        # Opened anew each time: it may have been rotated.
        with path.open("ab") as file:
            file.write(block)
        written += len(block)
        due += SLICE_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
    return written


def follow(system: System, taken: list[int], stop: threading.Event) -> None:
    """Reads the log through the API as fast as it comes."""
    credentials = Credentials.load(system.kubeconfig)
    client = http.client.HTTPSConnection(
        credentials.host, credentials.port, context=credentials.context, timeout=30
    )
    client.request("GET", "/api/v1/namespaces/default/pods/pod-0/log?follow=true")
    answer = client.getresponse()
    # It ends with the whole system, in the middle of an answer.
    with contextlib.suppress(http.client.HTTPException, OSError, ValueError):
        while not stop.is_set():
            # What is there, without waiting for a whole block.
            block = answer.read1(1 << 20)
            if not block:
                return
            taken[0] += len(block)
    client.close()


def most_resident(pid: int, seconds: float) -> int:
    """The most memory that a process has for so long."""
    most, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        most = max(most, rss_bytes(pid))
        time.sleep(0.05)
    return most


def log_figures(system: System, bench: Bench) -> None:
    """The speed of a followed log, and what the agent's memory does."""
    assert system.edge is not None
    pid = system.edge.pid
    uid = system.pods()[0]["metadata"]["uid"]
    path = Path(f"/var/log/pods/default_pod-0_{uid}/main/0.log")
    before = most_resident(pid, QUIET_SECONDS)
    taken, stop = [0], threading.Event()
    reader = threading.Thread(target=follow, args=(system, taken, stop), daemon=True)
    reader.start()
    time.sleep(1)
    written = [0]
    begin = time.monotonic()
    writer = threading.Thread(
        target=lambda: written.append(write_log(path, begin + LOG_SECONDS)), daemon=True
    )
    writer.start()
    most = before
    while writer.is_alive():
        most = max(most, rss_bytes(pid))
        time.sleep(0.05)
    spent = time.monotonic() - begin
    # Until everything has come, or no more does.
    seen, since = taken[0], time.monotonic()
    while time.monotonic() - since < 2:
        if taken[0] != seen:
            seen, since = taken[0], time.monotonic()
            spent = since - begin
        most = max(most, rss_bytes(pid))
        time.sleep(0.05)
    stop.set()
    text = len(LINE) - LINE.index("x")
    bench.figure("log_written", written[-1] / LOG_SECONDS / 1e6, "MB/s")
    bench.figure(
        "log_followed", taken[0] / text * len(LINE) / spent / 1e6, "MB/s", goal=50, better="higher"
    )
    bench.figure("log_lost", 1 - taken[0] / text / (written[-1] / len(LINE)), "share", goal=0.0)
    bench.figure("log_agent_growth", (most - before) / 1e6, "MB", goal=4)


def main() -> int:
    bench = Bench("exec_latency")
    with (
        tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory,
        System(Path(directory) / "system", with_simulator=False) as system,
    ):
        start_pods(system, ["pod-0"])
        linked, direct = asyncio.run(latencies(system))
        floor, median = percentile(direct, 0.5) * 1e3, percentile(linked, 0.5) * 1e3
        bench.figure("exec_direct_median", floor, "ms")
        bench.figure("exec_through_the_link_median", median, "ms", baseline=floor)
        bench.figure("exec_added_median", median - floor, "ms", goal=5)
        bench.figure("exec_through_the_link_p95", percentile(linked, 0.95) * 1e3, "ms")
        log_figures(system, bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
