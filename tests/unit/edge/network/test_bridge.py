# SPDX-License-Identifier: Apache-2.0
"""The pod network that a node gets when it has none: what is written, when, and when not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kedge.edge.config import EdgeConfig
from kedge.edge.network import bridge, conflist
from kedge.edge.runtime import NetworkInfo
from kedge.edge.runtime.fake import FakeRuntime


class Said:
    """Takes Events about the node."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def node(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.events.append((reason, message))


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def able(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with every plugin, and a kernel that can limit."""
    monkeypatch.setattr(bridge, "can_limit", lambda: True)
    monkeypatch.setattr(bridge, "hidden_route", lambda cidrs, interface: "")
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in (*conflist.NEEDED, "portmap", "bandwidth"):
        (directory / name).touch(mode=0o755)
    return directory


def make(tmp_path: Path, said: Said, bin_dir: Path, **more: Any) -> bridge.Bridge:
    runtime = FakeRuntime()
    runtime.network_info = NetworkInfo("", str(tmp_path / "conf"), (str(bin_dir),))
    values = {"node": "edge-1", "cidrs": ("10.85.0.0/16", "fd85::/64"), "interface": "kedge0"}
    return bridge.Bridge(runtime, said, state=tmp_path / "state", **(values | more))  # type: ignore[arg-type]


async def test_a_node_without_a_network_gets_one(tmp_path: Path, said: Said, able: Path) -> None:
    assert await make(tmp_path, said, able).ensure() == ""
    path = tmp_path / "conf" / conflist.FILE
    network = json.loads(path.read_text())
    assert [one["type"] for one in network["plugins"]] == ["bridge", "portmap", "bandwidth"]
    ipam = network["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.85.0.0/16"}], [{"subnet": "fd85::/64"}]]
    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert [reason for reason, _ in said.events] == ["NetworkMade"]
    assert [one.name for one in path.parent.iterdir()] == [conflist.FILE]
    before = path.stat().st_mtime_ns
    assert await make(tmp_path, said, able).ensure() == ""
    assert path.stat().st_mtime_ns == before, "an agent that starts again changes nothing"
    assert bridge.written(tmp_path / "state") == path.parent
    assert bridge.remove(path.parent, tmp_path / "none") == [str(path)]
    assert bridge.remove(path.parent, tmp_path / "none") == []
    assert bridge.written(tmp_path / "state") is None


async def test_a_network_of_somebody_else_stays_alone(
    tmp_path: Path, said: Said, able: Path
) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "05-other.conf").write_text("{}")
    assert await make(tmp_path, said, able).ensure() == ""
    assert [one.name for one in conf.iterdir()] == ["05-other.conf"]
    assert said.events == [("NetworkKept", f"network: bridge is not made: {conf} has 05-other.conf")]  # fmt: skip
    (conf / "05-other.conf").rename(conf / conflist.FILE)
    assert await make(tmp_path, said, able).ensure() == ""
    assert bridge.remove(conf, tmp_path / "none") == []
    assert (conf / conflist.FILE).read_text() == "{}", "a file of that name is not ours by its name"


async def test_a_plugin_that_is_missing_is_named(tmp_path: Path, said: Said, able: Path) -> None:
    (able / "host-local").unlink()
    made = make(tmp_path, said, able)
    problem = await made.ensure()
    assert "needs the CNI plugins host-local" in problem
    assert str(able) in problem
    assert await made.ensure() == problem
    assert said.events == [("NetworkNotReady", problem)], "once"
    (able / "host-local").touch(mode=0o755)
    (able / "portmap").unlink()
    assert await made.ensure() == ""
    assert said.events[-2][0] == "NetworkPluginMissing"
    assert "portmap" in said.events[-2][1]
    network = json.loads((tmp_path / "conf" / conflist.FILE).read_text())
    assert [one["type"] for one in network["plugins"]] == ["bridge", "bandwidth"]


async def test_a_network_that_was_taken_away_is_written_again(
    tmp_path: Path, said: Said, able: Path
) -> None:
    made = make(tmp_path, said, able)
    await made.ensure()
    path = tmp_path / "conf" / conflist.FILE
    path.unlink()
    await made.ensure()
    assert not path.exists(), "while the runtime has a network, nothing is asked"
    await made.ensure(is_ready=False)
    assert path.exists()


async def test_a_kernel_that_cannot_limit_is_told_before_a_pod_asks(
    tmp_path: Path, said: Said, able: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "can_limit", lambda: False)
    assert await make(tmp_path, said, able).ensure() == ""
    assert "the kernel has no tbf or ifb" in said.events[0][1]
    text = (tmp_path / "conf" / conflist.FILE).read_text()
    assert "bandwidth" not in text


def test_a_route_of_the_node_is_not_hidden(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    routes.write_text(
        head
        + "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        + "eth0\t0000550A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        + "kedge0\t0000560A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert bridge.hidden_route(("10.85.0.0/16",), "kedge0", routes) == "10.85.0.0/24 on eth0"
    assert bridge.hidden_route(("10.86.0.0/16",), "kedge0", routes) == ""
    assert bridge.hidden_route(("10.86.1.0/24",), "other0", routes) == "10.86.0.0/16 on kedge0"
    assert bridge.hidden_route(("fd85::/64",), "kedge0", routes) == ""


@pytest.mark.parametrize(
    "cidrs",
    [
        ("10.85.0.0",),
        ("10.85.0.1/16",),
        ("10.85.0.0/31",),
        ("10.85.0/16",),
        ("fd85::/127",),
        ("10.85.0.0/16", "10.86.0.0/16"),
        (),
    ],
)
def test_a_pod_network_that_is_none_is_refused(cidrs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="podCidr"):
        EdgeConfig(network="bridge", pod_cidr=cidrs)


def test_the_network_is_an_explicit_choice() -> None:
    assert EdgeConfig().network == ""
    EdgeConfig(network="bridge", pod_cidr=("10.85.0.0/16", "fd85::/64"))
    with pytest.raises(ValueError, match="wanted: bridge"):
        EdgeConfig(network="host")
    with pytest.raises(ValueError, match="networkInterface"):
        EdgeConfig(network="bridge", network_interface="a-name-that-is-too-long")
