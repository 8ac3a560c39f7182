# SPDX-License-Identifier: Apache-2.0
"""Memory of the hub per connected node, TLS included: idle links, each with pods in its view.

The hub runs in a process of its own, so that the clients' memory does not count. Each node has its
own certificate, store connection and view of five pods with a ConfigMap each. The figure is the growth
of the hub's resident memory from a hundred links to six hundred, after the bursts of connecting are over.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rig import Bench, rss_bytes
from kedge.api.keys import ObjectKey
from kedge.hub import certificates
from kedge.hub.client import HubClient
from kedge.hub.server import HubServer
from kedge.runtime import Runtime
from kedge.store import Op, Store, put

WARM = 100
"""Links before the first measurement: they pay for what all share."""
NODES = 500
SETTLE_SECONDS = 75
"""What lately passed is kept for a minute."""
PODS = 5


def objects(node: str) -> list:
    """The view of one node."""
    found = []
    for number in range(PODS):
        name = f"{node}-web-{number}"
        metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
        volume = {"name": "c", "configMap": {"name": name}}
        container = {
            "name": "c",
            "image": "docker.io/library/busybox:latest",
            "command": ["sleep", "1d"],
        }
        pod = {
            "metadata": metadata,
            "spec": {"nodeName": node, "volumes": [volume], "containers": [container]},
        }
        config = {"metadata": {"name": name, "namespace": "default"}, "data": {"key": "value" * 20}}
        found.append(put(ObjectKey("", "configmaps", "default", name), json.dumps(config).encode()))
        found.append(put(ObjectKey("", "pods", "default", name), json.dumps(pod).encode()))
    return found


def own_node(node: str, pin: str) -> Op:
    """A node's Node, pinned to the key that all nodes have here."""
    metadata = {
        "name": node,
        "uid": f"uid-{node}",
        "annotations": {"kedge.io/public-key": pin},
    }
    return put(ObjectKey("", "nodes", "", node), json.dumps({"metadata": metadata}).encode())


def serve(directory: str) -> None:
    """The hub's process: prints its port, then its counts whenever asked."""
    pki = json.loads((Path(directory) / "pki.json").read_text())
    runtime = Runtime(2)
    store = Store.open(Path(directory) / "mirror", mode="replica", durable=False)
    for number in range(WARM + NODES):
        store.commit_now([own_node(f"edge-{number}", pki["pin"]), *objects(f"edge-{number}")])
    hub = HubServer(
        runtime,
        store,
        listen="127.0.0.1:0",
        ca=pki["ca"],
        certificate=certificates.Pair(pki["cert"], pki["key"]),
    )
    hub.open()
    print(hub.port, flush=True)
    for _ in sys.stdin:
        store.trim()
        ctypes.CDLL(None).malloc_trim(0)
        print(json.dumps(hub.stats()), flush=True)
    hub.close()
    runtime.close()


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--serve":
        serve(sys.argv[2])
        return 0
    bench = Bench("hub_memory")
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as directory:
        measure(bench, Path(directory))
    return bench.finish()


def measure(bench: Bench, directory: Path) -> None:
    """Links all nodes and compares."""
    ca = certificates.create_ca("kedge-ca", days=2)
    own = certificates.issue(
        ca, common_name="kedge-hub", dns_names=["kedge-hub"], days=1, server=True
    )
    request = certificates.make_csr("node")
    pki = {
        "ca": ca.certificate,
        "cert": own.certificate,
        "key": own.key,
        "pin": certificates.csr_key_hash(request.certificate),
    }
    (directory / "pki.json").write_text(json.dumps(pki))
    hub = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    runtime = Runtime(1)
    try:
        port = int(hub.stdout.readline())
        links: list = []

        def connect(count: int) -> int:
            for number in range(len(links), len(links) + count):
                store = Store.open(
                    directory / f"node-{number}", mode="replica", durable=False, map_size=1 << 20
                )
                links.append(link(runtime, store, ca, request, port, f"edge-{number}"))
            while ask(hub)["items_out"] < len(links) * (PODS * 2 + 1):
                time.sleep(1)
            time.sleep(SETTLE_SECONDS)
            ask(hub)
            time.sleep(1)
            return rss_bytes(hub.pid)

        before = connect(WARM)
        per_node = (connect(NODES) - before) / NODES
        bench.figure("hub_memory_per_node", per_node / 1024, "KB", goal=20, baseline=118)
        bench.figure("connected_nodes", ask(hub)["connections"], "nodes", better="higher")
        for client in links:
            client.close()
    finally:
        hub.stdin.close()
        hub.wait(30)
        runtime.close()


def ask(hub: subprocess.Popen) -> dict:
    """The hub's counts."""
    hub.stdin.write("\n")
    hub.stdin.flush()
    return json.loads(hub.stdout.readline())


def link(
    runtime: Runtime,
    store: Store,
    ca: certificates.Pair,
    request: certificates.Pair,
    port: int,
    node: str,
) -> HubClient:
    """A node that connects."""
    certificate = certificates.sign_csr(
        ca,
        request.certificate,
        common_name=f"system:node:{node}",
        organizations=["system:nodes"],
        uris=[f"urn:uuid:uid-{node}"],
        days=1,
    )
    pair = certificates.Pair(certificate, request.key)
    return HubClient(
        runtime, store, server=f"127.0.0.1:{port}", node=node, ca=ca.certificate, certificate=pair
    )


if __name__ == "__main__":
    sys.exit(main())
