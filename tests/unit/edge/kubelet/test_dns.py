# SPDX-License-Identifier: Apache-2.0
"""Resolver, host name and hosts file of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.edge.kubelet.container import dns
from tests.unit.edge.kubelet.builders import pod

NODE = dns.Resolver(("1.1.1.1",), ("node.local",), ("timeout:1",))
CLUSTER = ("10.96.0.10",)


def form(held: dict[str, Any], node: dns.Resolver = NODE) -> tuple[dict[str, Any], list[str]]:
    return dns.dns_config(held, node, CLUSTER, "cluster.local")


@pytest.mark.parametrize(
    ("fields", "servers"),
    [
        ({}, ["10.96.0.10"]),
        ({"hostNetwork": True}, ["1.1.1.1"]),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, ["10.96.0.10"]),
        ({"dnsPolicy": "Default"}, ["1.1.1.1"]),
        ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"]}}, ["9.9.9.9"]),
    ],
)
def test_the_policy_chooses_the_servers(fields: dict[str, Any], servers: list[str]) -> None:
    assert form(pod(**fields))[0]["servers"] == servers


def test_a_pods_own_config_is_added_and_its_options_win() -> None:
    config = {
        "nameservers": ["9.9.9.9", "10.96.0.10"],
        "searches": ["own.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    found, left_out = form(pod(dnsConfig=config))
    assert found["servers"] == ["10.96.0.10", "9.9.9.9"]
    assert found["searches"][-2:] == ["node.local", "own.local"]
    assert found["options"] == ["ndots:2", "edns0"]
    assert left_out == []


def test_what_is_beyond_the_limits_is_left_out_and_said() -> None:
    many = {"nameservers": [f"9.9.9.{one}" for one in range(4)]}
    found, left_out = form(pod(dnsPolicy="None", dnsConfig=many))
    assert len(found["servers"]) == 3
    assert left_out[0].endswith("the applied nameserver line is: 9.9.9.0 9.9.9.1 9.9.9.2")
    searches = {"searches": [f"s{one}.local" for one in range(40)]}
    found, left_out = form(pod(dnsConfig=searches))
    assert len(found["searches"]) == 32
    assert "Search Line limits were exceeded" in left_out[0]
    long = {"searches": [f"{'a' * 200}{one}.local" for one in range(12)]}
    found, left_out = form(pod(dnsPolicy="None", dnsConfig=long))
    assert len(" ".join(found["searches"])) <= 2048
    assert len(left_out) == 1


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, "web"),
        ({"hostname": "mine"}, "mine"),
        ({"hostname": "mine", "subdomain": "team"}, "mine"),
        ({"hostname": "m", "subdomain": "t", "setHostnameAsFQDN": True}, "m.t.default.svc.cluster.local"),
        ({"setHostnameAsFQDN": True}, "web"),
        ({"hostnameOverride": "whole.name", "hostname": "mine"}, "whole.name"),
    ],
)  # fmt: skip
def test_a_host_name_is_the_pods_own_or_its_name(fields: dict[str, Any], wanted: str) -> None:
    assert dns.hostname(pod(**fields), "cluster.local") == wanted


def test_a_name_that_linux_does_not_take_is_cut_or_refused() -> None:
    assert dns.hostname(pod(name="a" * 62 + "-bcd")) == "a" * 62
    held = pod(hostname="h" * 60, subdomain="team", setHostnameAsFQDN=True)
    with pytest.raises(ValueError, match="64 characters is the max"):
        dns.hostname(held, "cluster.local")


def test_the_hosts_file_has_the_pods_names_and_its_aliases() -> None:
    aliases = [{"ip": "10.0.0.9", "hostnames": ["db", "db.local"]}]
    held = pod(subdomain="team", hostAliases=aliases)
    lines = dns.hosts_file(held, ("10.1.0.7", "fd00::7"), "cluster.local").splitlines()
    assert "10.1.0.7\tweb.team.default.svc.cluster.local\tweb" in lines
    assert "fd00::7\tweb.team.default.svc.cluster.local\tweb" in lines
    assert lines[-1] == "10.0.0.9\tdb\tdb.local"


def test_on_the_host_network_the_hosts_file_is_the_nodes_with_aliases() -> None:
    held = pod(hostNetwork=True, hostAliases=[{"ip": "10.0.0.9", "hostnames": ["db"]}])
    text = dns.hosts_file(
        held, ("192.168.0.5",), "cluster.local", "127.0.0.1 localhost\n1.2.3.4 n\n"
    )
    assert text.splitlines() == [
        "# Kubernetes-managed hosts file (host network).",
        "127.0.0.1 localhost",
        "1.2.3.4 n",
        "",
        "# Entries added by HostAliases.",
        "10.0.0.9\tdb",
    ]
