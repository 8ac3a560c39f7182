# SPDX-License-Identifier: Apache-2.0
"""The CNI network that kedge writes, and how it tells its own from others'; pure."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "kedge"
FILE = "10-kedge.conflist"
VERSION = "0.4.0"
MARK = "writtenByKedge"
NEEDED = ("bridge", "host-local", "loopback")
"""Plugins without which there is no network."""
_EVERYTHING = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}
_SPARE_BITS = 2
"""A network of fewer addresses than these bits give has none for a pod."""


def parse_cidr(text: str) -> tuple[socket.AddressFamily, int, int]:
    """Family, first address as a number, and length of the prefix.

    Raises:
        ValueError: it is no network, or too small for pods.
    """
    address, _, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        number = int.from_bytes(socket.inet_pton(family, address))
    except OSError as error:
        raise ValueError(f"got: {text!r}, wanted: a network such as 10.85.0.0/16") from error
    bits = _BITS[family]
    if not length.isdecimal() or not 1 <= int(length) <= bits - _SPARE_BITS:
        raise ValueError(f"got: {text!r}, wanted: a prefix of 1 to {bits - _SPARE_BITS} bits")
    if number & ((1 << (bits - int(length))) - 1):
        raise ValueError(f"got: {text!r}, wanted: the first address of the network")
    return family, number, int(length)


def check_cidrs(cidrs: Iterable[str]) -> None:
    """Checks the setting: at most one network of a family.

    Raises:
        ValueError: something in it is wrong.
    """
    families = set()
    for text in cidrs:
        try:
            family, _, _ = parse_cidr(text)
        except ValueError as error:
            raise ValueError(f"podCidr: {error}") from error
        if family in families:
            raise ValueError(f"podCidr: got: {text!r}, wanted: one network of a family")
        families.add(family)


def overlap(cidr: str, other: str) -> bool:
    """Whether two networks have addresses in common."""
    family, number, length = parse_cidr(cidr)
    address, _, prefix = other.partition("/")
    if (socket.AF_INET6 if ":" in address else socket.AF_INET) != family:
        return False
    shift = _BITS[family] - min(length, int(prefix))
    return number >> shift == int.from_bytes(socket.inet_pton(family, address)) >> shift


def render(
    cidrs: Iterable[str], *, interface: str, state: str, node: str, extras: Iterable[str]
) -> str:
    """The file: a bridge with addresses, then the plugins for ports and bandwidth that there are.

    Args:
        cidrs: the pods' networks.
        interface: what the bridge is called.
        state: where addresses that are in use are kept.
        node: whose it is.
        extras: of ``portmap`` and ``bandwidth``, those that the node has.
    """
    cidrs = list(cidrs)
    bridge: dict[str, Any] = {
        "type": "bridge",
        "bridge": interface,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": cidr}] for cidr in cidrs],
            "routes": [{"dst": _EVERYTHING[parse_cidr(cidr)[0]]} for cidr in cidrs],
            "dataDir": state,
        },
    }
    plugins = [bridge]
    if "portmap" in extras:
        plugins.append({"type": "portmap", "capabilities": {"portMappings": True}})
    if "bandwidth" in extras:
        plugins.append({"type": "bandwidth", "capabilities": {"bandwidth": True}})
    network = {"cniVersion": VERSION, "name": NAME, MARK: node, "plugins": plugins}
    return json.dumps(network, indent=2) + "\n"


def is_ours(text: str) -> bool:
    """Whether a CNI file is one that kedge wrote."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and MARK in found


def interface_of(text: str) -> str:
    """The bridge of a file that kedge wrote."""
    for plugin in json.loads(text).get("plugins") or ():
        if plugin.get("type") == "bridge":
            return str(plugin.get("bridge") or "")
    return ""
