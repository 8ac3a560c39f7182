# SPDX-License-Identifier: Apache-2.0
"""Cluster IPs and node ports of Services.

What is taken is written in the store: an object ``serviceipaddresses.kedge.io`` or
``servicenodeports.kedge.io`` named after the address or port, put with *absent* expected, in the
same transaction as the Service. So two Services can never share one, whoever writes them, and a
crash leaves nothing taken for nothing.
"""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import orjson

from kedge.api.keys import ObjectKey
from kedge.api.validation import Problems
from kedge.api.validation.addresses import family_of
from kedge.api.validation.services import needs_health_check
from kedge.cluster.apiserver import service_fields
from kedge.errors import ApiError
from kedge.store import ABSENT, Op, Store, delete, put

Object = dict[str, Any]

GROUP = "kedge.io"
ADDRESSES = "serviceipaddresses"
PORTS = "servicenodeports"
PORT_RANGE = (30000, 32767)
_RESERVED = 16
"""Addresses at the start of the range that are only given on request, such as DNS's."""
_TRIES = 64


def address_key(address: str) -> ObjectKey:
    """Where an address is marked as taken."""
    return ObjectKey(GROUP, ADDRESSES, "", address)


def port_key(port: int) -> ObjectKey:
    """Where a node port is marked as taken."""
    return ObjectKey(GROUP, PORTS, "", str(port))


class Allocator:
    """Gives Services what they need and says what to write for it.

    Args:
        store: where what is taken is written.
        cidrs: the ranges of cluster IPs, at most one per family, the cluster's own family first.
        rng: where randomness comes from.
    """

    def __init__(self, store: Store, cidrs: str, rng: random.Random | None = None) -> None:
        self._store = store
        networks = [ipaddress.ip_network(cidr.strip()) for cidr in cidrs.split(",")]
        self._networks = {f"IPv{network.version}": network for network in networks}
        self._rng = rng or random.Random()  # noqa: S311 - not a secret

    @property
    def first(self) -> str:
        """The first address, which is the API server's own."""
        return str(next(iter(self._networks.values()))[1])

    def complete(self, service: Object, old: Object | None) -> list[Op]:
        """Fills in addresses and ports, and says what to write beside the Service.

        Args:
            service: the Service as it will be; changed in place.
            old: the Service as it was, on an update.

        Raises:
            Invalid: an address or port asked for is taken or outside the range.
        """
        spec = service.setdefault("spec", {})
        before = old.get("spec", {}) if old is not None else None
        name = service["metadata"].get("name", "")
        service_fields.carry_over(spec, before)
        problems = Problems()
        service_fields.choose_families(spec, before, list(self._networks), problems)
        problems.raise_for("", "Service", name)
        if not service_fields.keeps_both_as_they_are(spec, before):
            self._addresses(spec, problems, before)
        problems.raise_for("", "Service", name)
        self._ports(spec, problems, old)
        problems.raise_for("", "Service", name)
        self._health_check(spec, before)
        if old is not None:
            service_fields.drop_unused(service, old)
        return _difference(service, old)

    def _addresses(self, spec: Object, problems: Problems, before: Object | None) -> None:
        """An address per family, those asked for first; that others stay is for validation to say."""
        held = (before or {}).get("clusterIPs") or ()
        if held[:1] == ["None"]:
            return
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
            return
        given = list(spec.get("clusterIPs") or ())
        for index, family in enumerate(spec["ipFamilies"]):
            wanted = given[index] if index < len(given) else ""
            if not wanted:
                given.append(self._free_address(family))
            elif index >= len(held):
                self._check(wanted, given, problems)
        spec["clusterIPs"] = given
        spec["clusterIP"] = given[0]

    def _check(self, address: str, given: list[str], problems: Problems) -> None:
        network = self._networks[family_of(address)]
        why = ""
        if ipaddress.ip_address(address) not in network:
            why = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
        elif self._store.get(address_key(address)) is not None:
            why = "provided IP is already allocated"
        if why:
            problems.invalid("spec.clusterIPs", given, f"failed to allocate IP {address}: {why}")

    def _free_address(self, family: str) -> str:
        network = self._networks[family]
        size = min(network.num_addresses, 1 << 64)
        start = min(_RESERVED, size // 2) + 1
        for _ in range(_TRIES):
            address = str(network[self._rng.randrange(start, size - 1)])
            if self._store.get(address_key(address)) is None:
                return address
        for number in range(1, min(size - 1, 1 << 16)):
            address = str(network[number])
            if self._store.get(address_key(address)) is None:
                return address
        raise ApiError(f"failed to allocate a serviceIP: range is full: {network}")

    def _ports(self, spec: Object, problems: Problems, old: Object | None) -> None:
        """A node port per port; the same for two protocols of one number where nobody says otherwise."""
        if not service_fields.has_node_ports(spec):
            return
        wants_any = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
        ports = spec.get("ports") or []
        mine = _ports(old)
        asked = {port.get("port"): port["nodePort"] for port in ports if port.get("nodePort")}
        taken = set(asked.values())
        checked: set[int] = set()
        for index, port in enumerate(ports):
            wanted = port.get("nodePort", 0)
            if wanted and wanted not in mine | checked:
                self._check_port(wanted, f"spec.ports[{index}].nodePort", problems)
                checked.add(wanted)
            elif not wanted and wants_any:
                number = asked.get(port.get("port"), 0) if old is None else 0
                port["nodePort"] = number or self._free_port(taken)
                asked.setdefault(port.get("port"), port["nodePort"])
                taken.add(port["nodePort"])

    def _health_check(self, spec: Object, before: Object | None) -> None:
        """A port at which nodes say whether they have pods of a Service."""
        if not needs_health_check(spec) or (before is not None and needs_health_check(before)):
            return
        wanted = spec.get("healthCheckNodePort", 0)
        if not wanted:
            spec["healthCheckNodePort"] = self._free_port(_node_ports(spec))
            return
        problem = self._port_problem(wanted)
        if problem or wanted in _node_ports(spec):
            why = problem or "provided port is already allocated"
            message = f"failed to allocate requested HealthCheck NodePort {wanted}: {why}"
            raise ApiError(f"Internal error occurred: {message}")

    def _check_port(self, port: int, path: str, problems: Problems) -> None:
        if problem := self._port_problem(port):
            problems.invalid(path, port, problem)

    def _port_problem(self, port: int) -> str:
        low, high = PORT_RANGE
        if not low <= port <= high:
            return (
                f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
            )
        if self._store.get(port_key(port)) is not None:
            return "provided port is already allocated"
        return ""

    def _free_port(self, taken: set[int]) -> int:
        low, high = PORT_RANGE
        for port in (self._rng.randint(low, high) for _ in range(_TRIES)):
            if port not in taken and self._store.get(port_key(port)) is None:
                return port
        for port in range(low, high + 1):
            if port not in taken and self._store.get(port_key(port)) is None:
                return port
        raise ApiError("failed to allocate a nodePort: range is full")


def release(service: Object) -> list[Op]:
    """What to write when a Service goes."""
    return _difference({"spec": {}, "metadata": service["metadata"]}, service)


def _addresses(service: Object | None) -> set[str]:
    spec = (service or {}).get("spec", {})
    return {address for address in spec.get("clusterIPs", ()) if address not in ("", "None")}


def _ports(service: Object | None) -> set[int]:
    spec = (service or {}).get("spec", {})
    check = spec.get("healthCheckNodePort", 0)
    return _node_ports(spec) | ({check} if check else set())


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _difference(new: Object, old: Object | None) -> list[Op]:
    before = {address_key(one) for one in _addresses(old)} | {port_key(one) for one in _ports(old)}
    after = {address_key(one) for one in _addresses(new)} | {port_key(one) for one in _ports(new)}
    metadata = new["metadata"]
    service = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    taken = [put(key, _mark(key, service), ABSENT) for key in sorted(after - before)]
    return taken + [delete(key) for key in sorted(before - after)]


def _mark(key: ObjectKey, service: str) -> bytes:
    return orjson.dumps(
        {"kind": "Allocation", "metadata": {"name": key.name}, "spec": {"service": service}}
    )
