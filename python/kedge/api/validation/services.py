# SPDX-License-Identifier: Apache-2.0
"""Rules of Services."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kedge.api import names
from kedge.api.validation import metadata

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("SCTP", "TCP", "UDP")
PORT_RULE = "must be between 1 and 65535, inclusive"


def validate(obj: Object, problems: Problems) -> None:
    """Type, address, ports and selector."""
    spec = obj.get("spec", {})
    kind = spec.get("type")
    problems.choice("spec.type", kind, TYPES)
    problems.choice("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    if kind == "ExternalName":
        name = spec.get("externalName", "")
        if name:
            problems.text("spec.externalName", name, names.subdomain(name.rstrip(".")))
        else:
            problems.required("spec.externalName")
    elif not spec.get("ports") and spec.get("clusterIP") != "None":
        problems.required("spec.ports")
    _address(spec.get("clusterIP", ""), problems)
    metadata.labels(spec.get("selector", {}), "spec.selector", problems)
    _ports(spec.get("ports", ()), kind, problems)


def _address(address: str, problems: Problems) -> None:
    if address in ("", "None"):
        return
    try:
        ipaddress.ip_address(address)
    except ValueError:
        detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        problems.invalid("spec.clusterIPs[0]", address, detail)


def _ports(ports: list[Object], kind: str | None, problems: Problems) -> None:
    seen_names: set[str] = set()
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        _port(port, path, kind, problems)
        name = port.get("name", "")
        if not name and len(ports) > 1:
            problems.required(f"{path}.name")
        elif name in seen_names:
            problems.duplicate(f"{path}.name", name)
        seen_names.add(name)
        pair = (port.get("protocol", ""), port.get("port", 0))
        if pair in seen:
            problems.duplicate(path, {"port": pair[1], "protocol": pair[0]})
        seen.add(pair)


def _port(port: Object, path: str, kind: str | None, problems: Problems) -> None:
    if port.get("name"):
        problems.text(f"{path}.name", port["name"], names.label(port["name"]))
    if not 1 <= port.get("port", 0) <= 65535:
        problems.invalid(f"{path}.port", port.get("port", 0), PORT_RULE)
    problems.choice(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    target = port.get("targetPort")
    if type(target) is int and not 1 <= target <= 65535:
        problems.invalid(f"{path}.targetPort", target, PORT_RULE)
    if type(target) is str and names.label(target):
        problems.invalid(f"{path}.targetPort", target, names.LABEL_RULE)
    if port.get("nodePort") and kind in ("ClusterIP", "ExternalName"):
        problems.forbidden(f"{path}.nodePort", f"may not be used when `type` is '{kind}'")


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """A Service keeps its address while it has one."""
    before, after = old.get("spec", {}), new.get("spec", {})
    if before.get("type") == "ExternalName" or after.get("type") == "ExternalName":
        return
    if before.get("clusterIP"):
        problems.immutable("spec.clusterIPs[0]", before.get("clusterIP"), after.get("clusterIP"))
