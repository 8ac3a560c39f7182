# SPDX-License-Identifier: Apache-2.0
"""A pod's resolver and hosts file, from its ``dnsPolicy`` and the node's own; pure but for one read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.edge.kubelet.pod.state import Pod

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
MAX_NAME_CHARACTERS = 64
CLUSTER_OPTIONS = ("ndots:5",)
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
) -> tuple[dict[str, Any], list[str]]:
    """The sandbox's ``dns_config``, and what had to be left out of it, in words for Events.

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
        options = list(CLUSTER_OPTIONS)
    extra = spec.get("dnsConfig") or {}
    servers += extra.get("nameservers") or []
    searches += extra.get("searches") or []
    for option in extra.get("options") or []:
        value = option.get("value")
        options = [one for one in options if one.split(":")[0] != option["name"]]
        options.append(f"{option['name']}:{value}" if value is not None else option["name"])
    left_out: list[str] = []
    found = {
        "servers": _fitting_servers(list(dict.fromkeys(servers)), left_out),
        "searches": _fitting_searches(list(dict.fromkeys(searches)), left_out),
        "options": options,
    }
    return found, left_out


def _fitting_servers(servers: list[str], left_out: list[str]) -> list[str]:
    kept = servers[:MAX_SERVERS]
    if kept != servers:
        text = "Nameserver limits were exceeded, some nameservers have been omitted, "
        left_out.append(f"{text}the applied nameserver line is: {' '.join(kept)}")
    return kept


def _fitting_searches(searches: list[str], left_out: list[str]) -> list[str]:
    kept = searches[:MAX_SEARCHES]
    while len(" ".join(kept)) > MAX_SEARCH_CHARACTERS:
        kept.pop()
    if kept != searches:
        text = "Search Line limits were exceeded, some search paths have been omitted, "
        left_out.append(f"{text}the applied search line is: {' '.join(kept)}")
    return kept


def _is_cluster_first(policy: str, *, host_network: bool) -> bool:
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not host_network)


def hostname(pod: Pod, domain: str = "") -> str:
    """A pod's host name: its own, else its name, cut to what Linux takes; the whole name if it wants that.

    Raises:
        ValueError: the whole name is longer than Linux takes.
    """
    spec = pod["spec"]
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"])
    name = (spec.get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")
    if not spec.get("setHostnameAsFQDN") or not spec.get("subdomain"):
        return str(name)
    full = f"{name}.{_domain(pod, domain)}"
    if len(full) > MAX_NAME_CHARACTERS:
        text = "Failed to construct FQDN from Pod hostname and cluster domain, FQDN"
        limit = f"({MAX_NAME_CHARACTERS} characters is the max, {len(full)} characters requested)"
        raise ValueError(f"{text} {full} is too long {limit}")
    return full


def _domain(pod: Pod, domain: str) -> str:
    return f"{pod['spec']['subdomain']}.{pod['metadata']['namespace']}.svc.{domain}"


def hosts_file(pod: Pod, ips: tuple[str, ...], domain: str, node_hosts: str = "") -> str:
    """The pod's /etc/hosts; on the host network the node's, with the pod's aliases.

    Args:
        pod: it.
        ips: the pod's addresses.
        domain: of the cluster.
        node_hosts: what the node's own file says, for a pod on the host network.
    """
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        lines = ["# Kubernetes-managed hosts file (host network).", *node_hosts.splitlines()]
    else:
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        names = hostname({**pod, "spec": {**spec, "setHostnameAsFQDN": False}})
        if spec.get("subdomain") and not spec.get("hostnameOverride"):
            names = f"{names}.{_domain(pod, domain)}\t{names}"
        lines += [f"{ip}\t{names}" for ip in ips]
    if spec.get("hostAliases"):
        lines += ["", "# Entries added by HostAliases."]
        for alias in spec["hostAliases"]:
            lines.append("\t".join([alias["ip"], *(alias.get("hostnames") or [])]))
    return "\n".join(lines) + "\n"


def read_hosts(path: Path) -> str:
    """The node's hosts file; empty when there is none."""
    return read_text(path, MAX_RESOLV_CONF_BYTES)
