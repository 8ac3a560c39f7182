# SPDX-License-Identifier: Apache-2.0
"""Rules of Ingresses, their classes, and NetworkPolicies."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kedge.api import names
from kedge.api.validation.endpoints import PORT_RULE, PROTOCOLS
from kedge.api.validation.workloads import label_selector

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

CIDR_RULE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
MAX_CONTROLLER = 250
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
POLICY_TYPES = ("Egress", "Ingress")
_BAD_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")


def validate_policy(obj: Object, problems: Problems) -> None:
    """Whom a NetworkPolicy is for, and whom it lets in and out."""
    spec = obj.get("spec", {})
    label_selector(spec.get("podSelector", {}), "spec.podSelector", problems)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction, ())):
            path = f"spec.{direction}[{index}]"
            for at, port in enumerate(rule.get("ports", ())):
                _policy_port(port, f"{path}.ports[{at}]", problems)
            for at, peer in enumerate(rule.get(peers, ())):
                _peer(peer, f"{path}.{peers}[{at}]", problems)
    types = spec.get("policyTypes", ())
    if len(types) > len(POLICY_TYPES):
        problems.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for index, kind in enumerate(types):
        problems.choice(f"spec.policyTypes[{index}]", kind, POLICY_TYPES)


def _policy_port(port: Object, path: str, problems: Problems) -> None:
    if "protocol" in port:
        problems.choice(f"{path}.protocol", port["protocol"], PROTOCOLS)
    first, last = port.get("port"), port.get("endPort")
    if type(first) is int:
        _port_number(first, f"{path}.port", problems)
        if last is not None:
            if last < first:
                detail = "must be greater than or equal to `port`"
                problems.invalid(f"{path}.endPort", first, detail)
            _port_number(last, f"{path}.endPort", problems)
        return
    if last is not None:
        why = "not specified" if first is None else "non-numeric"
        problems.invalid(f"{path}.endPort", last, f"may not be specified when `port` is {why}")
    if first is not None:
        problems.text(f"{path}.port", first, names.port(first))


def _port_number(number: int, path: str, problems: Problems) -> None:
    if not 1 <= number <= 65535:
        problems.invalid(path, number, PORT_RULE)


def _peer(peer: Object, path: str, problems: Problems) -> None:
    selectors = [name for name in ("podSelector", "namespaceSelector") if name in peer]
    for name in selectors:
        label_selector(peer[name], f"{path}.{name}", problems)
    if "ipBlock" in peer:
        _block(peer["ipBlock"], f"{path}.ipBlock", problems)
        if selectors:
            problems.forbidden(path, "may not specify both ipBlock and another peer")
    elif not selectors:
        problems.required(path, "must specify a peer")


def _block(block: Object, path: str, problems: Problems) -> None:
    cidr = block.get("cidr", "")
    if not cidr:
        problems.required(f"{path}.cidr")
        return
    whole = _network(cidr)
    if whole is None:
        problems.invalid(f"{path}.cidr", cidr, CIDR_RULE)
        return
    for index, text in enumerate(block.get("except", ())):
        part = _network(text)
        if part is None:
            problems.invalid(f"{path}.except[{index}]", text, CIDR_RULE)
        elif part.version != whole.version or part == whole or not _within(part, whole):
            problems.invalid(f"{path}.except[{index}]", text, "must be a strict subset of `cidr`")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> Network | None:
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _within(part: Network, whole: Network) -> bool:
    return part.network_address in whole and part.broadcast_address in whole


def validate_ingress(obj: Object, problems: Problems) -> None:
    """Hosts, paths and backends."""
    spec = obj.get("spec", {})
    rules, backend = spec.get("rules", []), spec.get("defaultBackend")
    if not rules and backend is None:
        detail = "either `defaultBackend` or `rules` must be specified"
        problems.invalid("spec", rules, detail)
    if backend is not None:
        _backend(backend, "spec.defaultBackend", problems)
    for index, rule in enumerate(rules):
        _rule(rule, f"spec.rules[{index}]", problems)
    for index, tls in enumerate(spec.get("tls", ())):
        for at, host in enumerate(tls.get("hosts", ())):
            _host_name(host, f"spec.tls[{index}].hosts[{at}]", problems)
        if tls.get("secretName"):
            name = tls["secretName"]
            problems.text(f"spec.tls[{index}].secretName", name, names.subdomain(name))
    if "ingressClassName" in spec:
        name = spec["ingressClassName"]
        problems.text("spec.ingressClassName", name, names.subdomain(name))


def _rule(rule: Object, path: str, problems: Problems) -> None:
    host = rule.get("host", "")
    if host:
        if _is_address(host):
            problems.invalid(f"{path}.host", host, "must be a DNS name, not an IP address")
        else:
            _host_name(host, f"{path}.host", problems)
    if "http" not in rule:
        return
    paths = rule["http"].get("paths", ())
    if not paths:
        problems.required(f"{path}.http.paths")
    for index, one in enumerate(paths):
        _path(one, f"{path}.http.paths[{index}]", problems)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host_name(host: str, path: str, problems: Problems) -> None:
    """A name, or one whose first part stands for any."""
    problems.text(path, host, names.subdomain(host.removeprefix("*.")))


def _path(one: Object, path: str, problems: Problems) -> None:
    kind, text = one.get("pathType"), one.get("path", "")
    if kind is None:
        problems.required(f"{path}.pathType", "pathType must be specified")
    elif kind in ("Exact", "Prefix"):
        _absolute(text, f"{path}.path", problems)
        for part in _BAD_PARTS:
            if part in text:
                problems.invalid(f"{path}.path", text, f"must not contain '{part}'")
        for end in _BAD_ENDS:
            if text.endswith(end):
                problems.invalid(f"{path}.path", text, f"cannot end with '{end}'")
    elif kind == "ImplementationSpecific":
        if text:
            _absolute(text, f"{path}.path", problems)
    else:
        problems.choice(f"{path}.pathType", kind, PATH_TYPES)
    _backend(one.get("backend", {}), f"{path}.backend", problems)


def _absolute(text: str, path: str, problems: Problems) -> None:
    if not text.startswith("/"):
        problems.invalid(path, text, "must be an absolute path")


def _backend(backend: Object, path: str, problems: Problems) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        problems.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        for field in ("kind", "name"):
            if not resource.get(field):
                problems.required(f"{path}.resource.{field}")
    elif service is None:
        problems.required(path, "must specify either a service or a resource backend")
    else:
        _service(service, f"{path}.service", problems)


def _service(service: Object, path: str, problems: Problems) -> None:
    name, port = service.get("name", ""), service.get("port", {})
    if name:
        problems.text(f"{path}.name", name, names.label_1035(name))
    else:
        problems.required(f"{path}.name")
    if port.get("name") and port.get("number"):
        problems.invalid(path, "", "cannot set both port name & port number")
    elif port.get("name"):
        problems.text(f"{path}.port.name", port["name"], names.port(port["name"]))
    elif port.get("number"):
        _port_number(port["number"], f"{path}.port.number", problems)
    else:
        problems.required(path, "port name or number is required")


def validate_class(obj: Object, problems: Problems) -> None:
    """Who serves the Ingresses of a class, and where the settings are."""
    spec = obj.get("spec", {})
    controller = spec.get("controller", "")
    if not controller:
        problems.required("spec.controller")
    elif len(controller) > MAX_CONTROLLER:
        problems.too_long("spec.controller", MAX_CONTROLLER)
    else:
        problems.text("spec.controller", controller, names.domain_path(controller))
    parameters = spec.get("parameters")
    if parameters is None:
        return
    path = "spec.parameters"
    for field in ("kind", "name"):
        if parameters.get(field):
            complaint = names.path_segment(parameters[field])
            problems.text(f"{path}.{field}", parameters[field], complaint)
        else:
            problems.required(f"{path}.{field}", f"{field} is required")
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    problems.choice(f"{path}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace" and not namespace:
        detail = "`parameters.scope` is set to 'Namespace'"
        problems.required(f"{path}.namespace", detail)
    if scope == "Cluster" and namespace is not None:
        detail = "`parameters.scope` is set to 'Cluster'"
        problems.forbidden(f"{path}.namespace", detail)


def validate_class_update(new: Object, old: Object, problems: Problems) -> None:
    """The controller stays."""
    before, after = (one.get("spec", {}).get("controller") for one in (old, new))
    problems.immutable("spec.controller", before, after)
