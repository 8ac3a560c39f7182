# SPDX-License-Identifier: Apache-2.0
"""The API server under load: creates, status patches, gets, a long list, and its memory.

A real ``python -m kedge.cluster`` with fsync on; the load comes from the Rust example ``api_load``
(HTTPS with client certificates, 32 connections), which shares the machine with the server.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rig import REPOSITORY, Bench, rss_bytes
from tests.rig.api import Api
from tests.rig.processes import Process, free_port

PODS = 10_000
CLIENTS = 32
LISTS = 5
START_SECONDS = 30

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "load-node"}}


def build_generator() -> Path:
    """The load generator, built in release mode."""
    cargo = ["cargo", "build", "--quiet", "--release", "-p", "kedge-core", "--example", "api_load"]
    subprocess.run(cargo, cwd=REPOSITORY, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return target / "release" / "examples" / "api_load"


def unpack(kubeconfig: Path, directory: Path) -> str:
    """Writes the credentials of a kubeconfig as files; the server's URL."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    user = config["users"][0]["user"]
    for name, data in (
        ("ca.crt", cluster["certificate-authority-data"]),
        ("client.crt", user["client-certificate-data"]),
        ("client.key", user["client-key-data"]),
    ):
        (directory / name).write_bytes(base64.b64decode(data))
    return cluster["server"]


def wait_until_ready(process: Process, kubeconfig: Path) -> Api:
    """Waits for the server and for the default ServiceAccount, without which no pod is admitted."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not process.is_running():
            break
        try:
            api = Api(kubeconfig)
            api.get("/api/v1/namespaces/default/serviceaccounts/default")
        except Exception:
            time.sleep(0.1)
            continue
        return api
    raise SystemExit(f"the cluster did not start:\n{process.tail()}")


def main() -> int:
    bench = Bench("apiserver")
    generator = build_generator()
    with tempfile.TemporaryDirectory(prefix="kedge-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        port = free_port()
        arguments = ["-m", "kedge.cluster", "--data-dir", str(directory / "data")]
        arguments += ["--listen", f"127.0.0.1:{port}"]
        process = Process(arguments, log=directory / "cluster.log")
        try:
            api = wait_until_ready(process, directory / "data" / "kubeconfig")
            api.create("/api/v1/nodes", NODE)
            server = unpack(directory / "data" / "kubeconfig", directory)
            assert urllib.parse.urlsplit(server).port == port
            measure(bench, generator, server, directory, process)
        finally:
            process.stop()
    return bench.finish()


def measure(bench: Bench, generator: Path, server: str, directory: Path, process: Process) -> None:
    bench.figure("rss, idle", rss_bytes(process.pid) / 1e6, "MB")

    def load(operation: str, count: int, clients: int = CLIENTS) -> dict:
        command = [str(generator), server, str(directory), operation, str(count), str(clients)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{operation}: {done.stderr}\n{process.tail()}")
        return json.loads(done.stdout)

    for operation, goal, baseline, p99 in (
        ("create", 2_066, 1_033, 77),
        ("patch", 1_386, 693, 120),
        ("get", 6_062, 3_031, 32),
    ):
        found = load(operation, PODS)
        bench.figure(
            operation, found["per_second"], "/s", goal=goal, better="higher", baseline=baseline
        )
        bench.figure(f"{operation}, p99", found["p99_ms"], "ms", baseline=p99)
    listed = load("list", LISTS, 1)
    bench.figure(f"list of {PODS} pods", listed["p50_ms"], "ms", baseline=509)
    bench.figure("size of that list", listed["bytes"] / LISTS / 1e6, "MB", baseline=27.5)
    bench.figure(
        f"rss, {PODS} pods stored", rss_bytes(process.pid) / 1e6, "MB", goal=150, baseline=1_366
    )


if __name__ == "__main__":
    sys.exit(main())
