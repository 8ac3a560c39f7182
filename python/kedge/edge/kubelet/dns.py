# SPDX-License-Identifier: Apache-2.0
"""A pod's resolver and hosts file, from its ``dnsPolicy`` and the node's own; pure but for one read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.edge.kubelet.state import Pod

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_RESOLV_CONF_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Resolver:
    """The contents of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolver(text: str) -> Resolver:
    """A resolv.conf; unknown lines are skipped, the last ``search`` wins."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        keyword, *words = line.split("#", 1)[0].split() or [""]
        if keyword == "nameserver" and words:
            servers.append(words[0])
        elif keyword in ("search", "domain"):
            searches = [word.rstrip(".") for word in words if word != "."]
        elif keyword == "options":
            options += words
    return Resolver(tuple(servers), tuple(searches), tuple(options))


def read_resolver(path: Path) -> Resolver:
    """The node's resolv.conf; empty when there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return parse_resolver(file.read(MAX_RESOLV_CONF_BYTES))
    except FileNotFoundError:
        return Resolver()


def dns_config(
    pod: Pod, node: Resolver, cluster_servers: tuple[str, ...], domain: str
) -> dict[str, Any]:
    """The sandbox's ``dns_config``.

    ``ClusterFirst`` without a cluster resolver on this node falls back to the node's, as the kubelet does.
    """
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    servers, searches, options = list(node.servers), list(node.searches), list(node.options)
    if policy == "None":
        servers, searches, options = [], [], []
    elif cluster_servers and _is_cluster_first(policy, host_network=bool(spec.get("hostNetwork"))):
        servers = list(cluster_servers)
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *searches]
        options = ["ndots:5", *options]
    extra = spec.get("dnsConfig") or {}
    servers += extra.get("nameservers") or []
    searches += extra.get("searches") or []
    for option in extra.get("options") or []:
        value = option.get("value")
        options = [one for one in options if one.split(":")[0] != option["name"]]
        options.append(f"{option['name']}:{value}" if value is not None else option["name"])
    return {
        "servers": list(dict.fromkeys(servers))[:MAX_SERVERS],
        "searches": list(dict.fromkeys(searches))[:MAX_SEARCHES],
        "options": options,
    }


def _is_cluster_first(policy: str, *, host_network: bool) -> bool:
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not host_network)


def hostname(pod: Pod) -> str:
    """A pod's host name: its own, else its name cut to what Linux takes."""
    name: str = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-.")


def hosts_file(pod: Pod, ips: tuple[str, ...], domain: str) -> str:
    """The pod's /etc/hosts."""
    lines = [
        "# managed by kedge",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    name, subdomain = hostname(pod), pod["spec"].get("subdomain")
    names = name
    if subdomain:
        names = f"{name}.{subdomain}.{pod['metadata']['namespace']}.svc.{domain}\t{name}"
    lines += [f"{ip}\t{names}" for ip in ips]
    for alias in pod["spec"].get("hostAliases") or []:
        lines.append("\t".join([alias["ip"], *(alias.get("hostnames") or [])]))
    return "\n".join(lines) + "\n"
