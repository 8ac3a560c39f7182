# SPDX-License-Identifier: Apache-2.0
"""Rules of Services."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kedge.api import names
from kedge.api.defaults.services import is_reached_from_outside
from kedge.api.validation import addresses, metadata
from kedge.api.validation.endpoints import NOT_AN_ADDRESS, PORT_RULE, PROTOCOLS, special

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
MAX_AFFINITY_SECONDS = 86400
HINTS = "service.kubernetes.io/topology-aware-hints"
MODE = "service.kubernetes.io/topology-mode"
RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_NOT_A_NETWORK = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def validate(obj: Object, problems: Problems) -> None:
    """Type, addresses, ports, selector and policies."""
    spec = obj.get("spec", {})
    kind = spec.get("type")
    annotations = obj["metadata"].get("annotations") or {}
    if {HINTS, MODE} <= annotations.keys() and annotations[HINTS] != annotations[MODE]:
        detail = f"must match annotations[{HINTS}] when both are specified"
        problems.invalid(f"metadata.annotations[{MODE}]", annotations[MODE], detail)
    headless = is_headless(spec)
    if not spec.get("ports") and not headless and kind != "ExternalName":
        problems.required("spec.ports")
    if kind in ("LoadBalancer", "NodePort") and spec.get("clusterIP") == "None":
        detail = f"may not be set to 'None' for {kind} services"
        problems.invalid("spec.clusterIPs[0]", "None", detail)
    if kind == "ExternalName":
        _external_name(spec, problems)
    _ports(spec.get("ports") or [], kind, problems)
    metadata.labels(spec.get("selector") or {}, "spec.selector", problems)
    _affinity(spec, problems)
    if kind != "ExternalName":
        addresses.validate(spec, problems)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{index}]"
        if not addresses.is_address(address):
            problems.invalid(path, address, NOT_AN_ADDRESS)
        else:
            special(address, path, problems)
    problems.choice("spec.type", kind, TYPES)
    _balancer(spec, annotations, problems)
    _traffic(spec, problems)


def is_headless(spec: Object) -> bool:
    """Whether a Service is to have no address of its own."""
    return spec.get("type") == "ClusterIP" and spec.get("clusterIP") == "None"


def needs_health_check(spec: Object) -> bool:
    """Whether load balancers ask each node if it has pods of a Service."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _external_name(spec: Object, problems: Problems) -> None:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            problems.forbidden(f"spec.{field}", "may not be set for ExternalName services")
    name = spec.get("externalName", "").removesuffix(".")
    if name:
        problems.text("spec.externalName", name, names.subdomain(name))
    else:
        problems.required("spec.externalName")


def _affinity(spec: Object, problems: Problems) -> None:
    wanted = spec.get("sessionAffinity")
    problems.choice("spec.sessionAffinity", wanted, ("ClientIP", "None"))
    if wanted != "ClientIP":
        return
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds = config.get("timeoutSeconds", 0)
    if not 0 < seconds <= MAX_AFFINITY_SECONDS:
        detail = f"must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        problems.invalid(path, seconds, detail)


def _ports(ports: list[Object], kind: str | None, problems: Problems) -> None:
    seen_names: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"spec.ports[{index}]", port.get("name", "")
        if name:
            problems.text(f"{path}.name", name, names.label(name))
            if name in seen_names:
                problems.duplicate(f"{path}.name", name)
        elif len(ports) > 1:
            problems.required(f"{path}.name")
        seen_names.add(name)
        _port(port, path, problems)
        if port.get("nodePort") and kind == "ClusterIP":
            problems.forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'")
    _twice(ports, problems)


def _twice(ports: list[Object], problems: Problems) -> None:
    """Two ports with the same number and protocol are one too many, also on nodes."""
    seen: dict[str, set[tuple[str, int]]] = {"nodePort": set(), "port": set()}
    for field, known in seen.items():
        for index, port in enumerate(ports):
            pair = (port.get("protocol", ""), port.get(field, 0))
            if not pair[1]:
                continue
            if pair in known and field == "nodePort":
                problems.duplicate(f"spec.ports[{index}].nodePort", pair[1])
            elif pair in known:
                shown = {"protocol": pair[0], "port": pair[1], "targetPort": 0}
                problems.duplicate(f"spec.ports[{index}]", shown)
            known.add(pair)


def _port(port: Object, path: str, problems: Problems) -> None:
    if not 1 <= port.get("port", 0) <= 65535:
        problems.invalid(f"{path}.port", port.get("port", 0), PORT_RULE)
    problems.choice(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    target = port.get("targetPort")
    if type(target) is int and not 1 <= target <= 65535:
        problems.invalid(f"{path}.targetPort", target, PORT_RULE)
    if type(target) is str:
        for complaint in names.port_name(target):
            problems.invalid(f"{path}.targetPort", target, complaint)
    if port.get("appProtocol") is not None:
        wanted = port["appProtocol"]
        problems.text(f"{path}.appProtocol", wanted, names.qualified(wanted))


def _balancer(spec: Object, annotations: dict[str, str], problems: Problems) -> None:
    is_balancer = spec.get("type") == "LoadBalancer"
    ranges = [text.strip() for text in spec.get("loadBalancerSourceRanges") or ()]
    path = "spec.LoadBalancerSourceRanges"
    indexed = bool(ranges)
    if not ranges and RANGES in annotations:
        path = f"metadata.annotations[{RANGES}]"
        text = annotations[RANGES].strip()
        ranges = [one.strip() for one in text.split(",")] if text else []
    if (indexed or RANGES in annotations) and not is_balancer:
        problems.forbidden(path, _ONLY_BALANCERS)
    for index, text in enumerate(ranges):
        if not _is_network(text):
            problems.invalid(f"{path}[{index}]" if indexed else path, text, _NOT_A_NETWORK)
    if spec.get("allocateLoadBalancerNodePorts") is not None and not is_balancer:
        problems.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCERS)
    wanted = spec.get("loadBalancerClass")
    if wanted is not None and is_balancer:
        problems.text("spec.loadBalancerClass", wanted, names.qualified(wanted))
    elif wanted is not None:
        problems.forbidden("spec.loadBalancerClass", _ONLY_BALANCERS)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _traffic(spec: Object, problems: Problems) -> None:
    policy = spec.get("externalTrafficPolicy")
    if is_reached_from_outside(spec):
        problems.choice("spec.externalTrafficPolicy", policy, ("Cluster", "Local"))
    elif policy:
        detail = "may only be set for externally-accessible services"
        problems.invalid("spec.externalTrafficPolicy", policy, detail)
    port = spec.get("healthCheckNodePort", 0)
    if not needs_health_check(spec):
        if port:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            problems.invalid("spec.healthCheckNodePort", port, detail)
    elif not port:
        problems.required("spec.healthCheckNodePort")
    elif not 1 <= port <= 65535:
        problems.invalid("spec.healthCheckNodePort", port, PORT_RULE)
    inside = spec.get("internalTrafficPolicy")
    if inside is not None or spec.get("type") in ("ClusterIP", "LoadBalancer", "NodePort"):
        problems.choice("spec.internalTrafficPolicy", inside, ("Cluster", "Local"))
    if spec.get("trafficDistribution") is not None:
        problems.choice("spec.trafficDistribution", spec["trafficDistribution"], DISTRIBUTIONS)


def validate_status(obj: Object, problems: Problems) -> None:
    """Where a load balancer is reached; a Service of another type has none."""
    balancer = (obj.get("status") or {}).get("loadBalancer") or {}
    path = "status.loadBalancer.ingress"
    if balancer.get("ingress") and obj.get("spec", {}).get("type") != "LoadBalancer":
        problems.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    for index, ingress in enumerate(balancer.get("ingress") or ()):
        _ingress(ingress, f"{path}[{index}]", problems)


def _ingress(ingress: Object, path: str, problems: Problems) -> None:
    address, mode, name = (ingress.get(field, "") for field in ("ip", "ipMode", "hostname"))
    if address and not addresses.is_address(address):
        problems.invalid(f"{path}.ip", address, NOT_AN_ADDRESS)
    if address and not mode:
        problems.required(f"{path}.ipMode", "must be specified when `ip` is set")
    elif mode and not address:
        problems.forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set")
    elif mode:
        problems.choice(f"{path}.ipMode", mode, ("Proxy", "VIP"))
    if name:
        problems.text(f"{path}.hostname", name, names.subdomain(name))
        if addresses.is_address(name):
            problems.invalid(f"{path}.hostname", name, "must be a DNS name, not an IP address")


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """A Service keeps its addresses, and a load balancer its class and health check."""
    before, after = old.get("spec", {}), new.get("spec", {})
    addresses.validate_change(after, before, problems)
    both = "LoadBalancer" == before.get("type") == after.get("type")
    if both and before.get("loadBalancerClass") != after.get("loadBalancerClass"):
        wanted = after.get("loadBalancerClass")
        problems.invalid("spec.loadBalancerClass", wanted, "may not change once set")
    asked = needs_health_check(before) and needs_health_check(after)
    if asked and before.get("healthCheckNodePort") != after.get("healthCheckNodePort"):
        problems.forbidden("spec.healthCheckNodePort", "field is immutable")
