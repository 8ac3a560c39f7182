# SPDX-License-Identifier: Apache-2.0
"""The network of pods on real containerd: a bridge of kedge's own, ports, names, bandwidth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kedge.edge.kubelet.node.node_info import addresses
from kedge.edge.network import bridge, conflist
from tests.e2e.test_security import configure, said
from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import SERVE, container, is_ready, pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

SLEEP = "exec sleep 1000000"
LIMIT = {"annotations": {"kubernetes.io/egress-bandwidth": "2M"}}

Make = Callable[..., EdgeNode]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as nodes:

        def one(**containerd: Any) -> EdgeNode:
            return nodes.enter_context(EdgeNode.temporary(**containerd))

        yield one


def fetch(address: str, port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=2) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def on_port(name: str, port: int) -> dict[str, Any]:
    ports = [{"containerPort": 8080, "hostPort": port, "protocol": "TCP"}]
    return pod(name, container(SERVE, ports=ports))


def free() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def test_a_node_without_a_network_gets_one_with_ports_and_both_families(make: Make) -> None:
    node = make(network=False)
    subnet = node.containerd.subnet
    configure(
        node,
        network="bridge",
        networkInterface=node.containerd.bridge,
        podCidr=[subnet, "fd85:1::/64"],
    )
    port = free()
    served, second = on_port("served", port), on_port("second", port)
    limited = pod("limited", container(SLEEP)) | {"metadata": pod("limited")["metadata"] | LIMIT}
    broken = pod("broken", container(SLEEP)) | {
        "metadata": pod("broken")["metadata"]
        | {"annotations": {"kubernetes.io/ingress-bandwidth": "lots"}}
    }
    script = "ping -c 1 $PEER && ping -c 1 $PEER6 && echo ok; ip -6 addr; "
    node.change(served, limited, broken)
    node.start()
    node.wait(lambda: is_ready(node, "served"), "it is ready on a network that was not there", 60)
    node.wait(lambda: is_ready(node, "limited"), "the limited one too", 60)
    path = node.containerd.directory / "cni" / conflist.FILE
    assert conflist.is_ours(path.read_text())
    mine = addresses()[0]
    node.wait(lambda: fetch(mine, port) == "ok\n", "the port of the node answers")
    shaped = subprocess.run(
        ["tc", "qdisc", "show"], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    ).stdout  # fmt: skip
    assert "tbf" in shaped
    assert "rate 2Mbit" in shaped
    node.kill()
    status = node.reports("pods/status")["served"]["status"]
    ips = [one["ip"] for one in status["podIPs"]]
    assert len(ips) == 2
    assert ips[1].startswith("fd85:1:")
    assert len(status["hostIPs"]) == len(addresses())
    client = pod(
        "client",
        container(
            script + SLEEP,
            env=[{"name": "PEER", "value": ips[0]}, {"name": "PEER6", "value": ips[1]}],
        ),
    )
    node.changed(second, client)
    node.wait(lambda: "ok" in said(node, client), "pods reach each other", 40)
    node.wait(lambda: "fd85:1:" in said(node, client), "with both families")
    node.wait(lambda: node.pods().get("second", {}).get("phase") == "Failed", "the port is taken")
    assert fetch(mine, port) == "ok\n", "the first does not notice"
    node.kill()
    statuses = node.reports("pods/status")
    assert statuses["second"]["status"]["reason"] == "NodePorts"
    events = {(one["reason"], one["involvedObject"]["name"]) for one in node.reports("events").values()}  # fmt: skip
    assert {("NetworkMade", "edge-1"), ("FailedCreatePodSandBox", "broken")} <= events
    node.change(deleted=(served, second, client, limited, broken))
    node.start()
    node.wait(lambda: not node.containerd.all_containers(), "all is gone", 40)
    node.kill()
    removed = bridge.remove(path.parent)
    assert removed == [str(path), node.containerd.bridge]
    assert not Path("/sys/class/net", node.containerd.bridge).exists()


def test_a_plugin_that_is_missing_makes_the_node_say_so(make: Make) -> None:
    plugins = Path(tempfile.mkdtemp(prefix="kedge-e2e-"))
    try:
        for name in ("bridge", "loopback"):
            shutil.copy(f"/usr/lib/cni/{name}", plugins / name)
        node = make(network=False, plugins=str(plugins))
        configure(
            node,
            network="bridge",
            networkInterface=node.containerd.bridge,
            podCidr=[node.containerd.subnet],
        )
        web = on_port("web", free())
        node.change(web)
        node.start()
        node.wait(
            lambda: "host-local" in str(node.status().get("runtime", {}).get("message")),
            "it says so",
        )
        shutil.copy("/usr/lib/cni/host-local", plugins / "host-local")
        node.wait(lambda: is_ready(node, "web"), "the plugin came", 60)
        node.wait(
            lambda: not node.status().get("runtime", {}).get("message"), "and the node too", 60
        )
        time.sleep(2)  # its report is written a moment later
        node.kill()
        ready = [
            one
            for one in node.reports("nodes/status")["edge-1"]["status"]["conditions"]
            if one["type"] == "Ready"
        ]
        assert ready[0]["status"] == "True"
        events = [(one["reason"], one["message"]) for one in node.reports("events").values()]
        assert any(reason == "NetworkNotReady" and "host-local" in text for reason, text in events)
        assert any(
            reason == "NetworkPluginMissing" and "portmap" in text for reason, text in events
        )
        assert any(reason == "NotHonoured" and "hostPort" in text for reason, text in events)
    finally:
        shutil.rmtree(plugins)


def test_names_and_resolvers_of_a_pod(make: Make) -> None:
    node = make()
    configure(node, clusterDns=["10.96.0.10"])
    show = f"hostname; echo --; cat /etc/hosts; echo --; cat /etc/resolv.conf; {SLEEP}"
    aliases = [{"ip": "10.0.0.9", "hostnames": ["db.local"]}]
    named = pod("named", container(show), hostname="mine", subdomain="team", hostAliases=aliases)
    full = pod("full", container(show), hostname="m", subdomain="team", setHostnameAsFQDN=True)
    over = pod("over", container(show), hostnameOverride="whole.name")
    config = {
        "nameservers": ["9.9.9.9", "9.9.9.8", "9.9.9.7", "9.9.9.6"],
        "searches": ["own.local"],
        "options": [{"name": "ndots", "value": "3"}],
    }
    own = pod("own", container(show), dnsPolicy="None", dnsConfig=config)
    host = pod("host", container(show), hostNetwork=True, hostAliases=aliases)
    node.change(named, full, over, own, host)
    node.start()
    names = {"named": named, "full": full, "over": over, "own": own, "host": host}
    for name, one in names.items():
        node.wait(lambda name=name: is_ready(node, name), f"{name} is ready", 40)
        node.wait(lambda one=one: said(node, one).count("--") == 2, f"{name} has spoken")
    parts = {name: said(node, one).split("--") for name, one in names.items()}
    assert parts["named"][0].strip() == "mine"
    assert "\tmine.team.default.svc.cluster.local\tmine" in parts["named"][1]
    assert "10.0.0.9\tdb.local" in parts["named"][1]
    assert "nameserver 10.96.0.10" in parts["named"][2]
    assert "default.svc.cluster.local" in parts["named"][2]
    assert "ndots:5" in parts["named"][2]
    assert parts["full"][0].strip() == "m.team.default.svc.cluster.local"
    assert parts["over"][0].strip() == "whole.name"
    assert parts["own"][2].count("nameserver") == 3
    assert "search own.local" in parts["own"][2]
    assert "(host network)" in parts["host"][1]
    assert "10.0.0.9\tdb.local" in parts["host"][1]
    assert parts["host"][0].strip() == os.uname().nodename
    assert (
        json.dumps(sorted(parts["host"][2].split()))
        == json.dumps(sorted(Path("/etc/resolv.conf").read_text().split()))
        or "10.96.0.10" not in parts["host"][2]
    )
    node.kill()
    events = [one for one in node.reports("events").values() if one["reason"] == "DNSConfigForming"]
    assert [one["involvedObject"]["name"] for one in events] == ["own"]
