# SPDX-License-Identifier: Apache-2.0
"""The MetaServer: GETs a second with a pod's token, and what 100 watchers on 1,000 objects cost the agent.

A real agent without a container runtime, its store filled before; RBAC decides every request. The load
comes from the Rust example ``api_load`` (HTTPS, 32 connections), which shares the machine with
the agent. Memory is VmRSS, as in ``bench/edge_rss.py``; the idle cost is against an agent
with ``metaserver: false`` over the same store.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.apiserver import build_generator
from bench.rig import Bench, rss_bytes
from kedge.api.keys import ObjectKey
from kedge.hub import certificates
from kedge.store import Op, Store, put
from tests.rig.inpod import curl
from tests.rig.mounts import unmount_below
from tests.rig.processes import Process, free_port, wait_until

OBJECTS = 1_000
WATCHERS = 100
GETS = 60_000
CLIENTS = 32
SETTLE_SECONDS = 15.0
READINGS = 5
RBAC = "rbac.authorization.k8s.io"
PATH = "/api/v1/namespaces/default/configmaps"


def filling(key: str) -> list[Op]:
    """What the store of the node holds."""

    def at(group: str, resource: str, namespace: str, name: str, value: dict) -> Op:
        value["metadata"] = {"name": name, "namespace": namespace} | value.get("metadata", {})
        return put(ObjectKey(group, resource, namespace, name), json.dumps(value).encode())

    data = {f"setting-{number}": "some value of some length" for number in range(20)}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": "ServiceAccount", "name": "load", "namespace": "default"}
    role = {"apiGroup": RBAC, "kind": "Role", "name": "load"}
    spec = {"issuer": "https://cluster", "jwks": certificates.jwks([certificates.public_key(key)])}
    maps = [
        at(
            "",
            "configmaps",
            "default",
            f"load-{number:06}",
            {"data": data, "metadata": {"resourceVersion": "7"}},
        )
        for number in range(OBJECTS)
    ]
    return [
        *maps,
        at("", "serviceaccounts", "default", "load", {"metadata": {"uid": "u-load"}}),
        at("kedge.io", "tokenissuers", "", "cluster", {"spec": spec}),
        at(RBAC, "roles", "default", "load", {"rules": rules}),
        at(RBAC, "rolebindings", "default", "load", {"roleRef": role, "subjects": [subject]}),
    ]


def token(key: str) -> str:
    """What the load asks with."""
    claims = {
        "iss": "https://cluster",
        "aud": ["https://cluster"],
        "exp": int(time.time()) + 86_400,
        "sub": "system:serviceaccount:default:load",
        "kubernetes.io": {
            "namespace": "default",
            "serviceaccount": {"name": "load", "uid": "u-load"},
        },
    }
    return certificates.jwt_sign(key, claims)


class Node:
    """An agent over a filled store."""

    def __init__(self, directory: Path, key: str) -> None:
        self.data = directory / "edge"
        self.port = free_port()
        self.agent: Process | None = None
        self._directory = directory
        self.data.mkdir()
        (self.data / "node.seal").write_bytes(bytes(range(32)))
        store = Store.open(self.data / "store", mode="replica", seal_key=bytes(range(32)))
        store.commit_now(filling(key))
        store.close()

    def start(self, *, metaserver: bool) -> None:
        settings = {
            "nodeName": "bench",
            "dataDir": str(self.data),
            "logsDir": str(self._directory / "logs"),
            "runtimeEndpoint": f"unix://{self._directory}/none.sock",
            "metaserver": metaserver,
            "metaserverListen": f"127.0.0.1:{self.port}",
            "metaserverPodAddress": "",
        }
        (self.data / "edge.yaml").write_text(json.dumps(settings))
        words = ["-m", "kedge.edge", "--config", str(self.data / "edge.yaml")]
        self.agent = Process(words, log=self._directory / "agent.log")
        if metaserver:
            wait_until(self._answers, 60, "the MetaServer answers", alive=self.agent)

    def _answers(self) -> bool:
        try:
            return curl(f"https://127.0.0.1:{self.port}/healthz")[0] == 200
        except subprocess.CalledProcessError:
            return False

    def resident(self) -> float:
        """The agent's memory in MB, as the largest of a few readings."""
        assert self.agent is not None
        time.sleep(SETTLE_SECONDS)
        readings = []
        for _ in range(READINGS):
            readings.append(rss_bytes(self.agent.pid))
            time.sleep(0.5)
        return max(readings) / 1e6

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.stop()


async def watch(port: int, bearer: str, ca: str, full: asyncio.Semaphore) -> None:
    """One watcher: reads its 1,000 objects, then stays."""
    context = ssl.create_default_context(cadata=ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    request = f"GET {PATH}?watch=1&allowWatchBookmarks=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n\r\n"
    writer.write(request.encode())
    seen = 0
    while block := await reader.read(1 << 16):
        seen += block.count(b'{"type":"ADDED"')
        if seen >= OBJECTS - OBJECTS // 100:
            # A mark may lie across two blocks; a hundredth of them does not matter for memory.
            full.release()
            seen = -(1 << 60)
    writer.close()


async def watching(node: Node, bearer: str, ca: str) -> tuple[float, float]:
    """MB with all watchers settled, and the most that was seen meanwhile."""
    assert node.agent is not None
    full = asyncio.Semaphore(0)
    peak = 0.0
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch(node.port, bearer, ca, full)) for _ in range(WATCHERS)]
        done = 0
        while done < WATCHERS:
            peak = max(peak, rss_bytes(node.agent.pid) / 1e6)
            try:
                async with asyncio.timeout(0.05):
                    await full.acquire()
                done += 1
            except TimeoutError:
                continue
        settled = await asyncio.to_thread(node.resident)
        for task in tasks:
            task.cancel()
    return settled, peak


def main() -> int:
    bench = Bench("metaserver")
    generator = build_generator()
    key = certificates.new_key()
    with tempfile.TemporaryDirectory(prefix="kedge-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        node = Node(directory, key)
        try:
            node.start(metaserver=False)
            without = node.resident()
            node.stop()
            node.start(metaserver=True)
            idle = node.resident()
            bench.figure("agent rss, without the MetaServer", without, "MB")
            bench.figure("idle cost of the MetaServer", idle - without, "MB", goal=1.5)
            ca = (node.data / "pki" / "metaserver-ca.crt").read_text()
            (directory / "ca.crt").write_text(ca)
            (directory / "token").write_text(token(key))
            server = f"https://127.0.0.1:{node.port}"
            command = [str(generator), server, str(directory), "get", str(GETS), str(CLIENTS)]
            command += [f"{PATH}/load-", str(OBJECTS)]
            subprocess.run(command, capture_output=True, check=True)
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            bench.figure("gets", found["per_second"], "/s", goal=20_000, better="higher")
            bench.figure("get, p99", found["p99_ms"], "ms")
            before = node.resident()
            bench.figure("agent rss after the gets, more", before - without, "MB")
            settled, peak = asyncio.run(watching(node, token(key), ca))
            what = f"{WATCHERS} watchers on {OBJECTS} objects"
            bench.figure(f"agent rss, {what}, more", settled - before, "MB", goal=10)
            bench.figure(f"agent rss, {what}, more at the most", peak - before, "MB", goal=10)
            bench.figure(
                f"agent rss, {what}, more than without the MetaServer",
                settled - without,
                "MB",
                goal=10,
            )
        finally:
            node.stop()
            unmount_below(directory)
    return bench.finish()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent / "python"))
    sys.exit(main())
