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
_WITH_PORTS = ("NodePort", "LoadBalancer")


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
        cidr: the range of cluster IPs.
        rng: where randomness comes from.
    """

    def __init__(self, store: Store, cidr: str, rng: random.Random | None = None) -> None:
        self._store = store
        self._network = ipaddress.ip_network(cidr)
        self._rng = rng or random.Random()  # noqa: S311 - not a secret

    @property
    def first(self) -> str:
        """The first address, which is the API server's own."""
        return str(self._network[1])

    def complete(self, service: Object, old: Object | None) -> list[Op]:
        """Fills in addresses and ports, and says what to write beside the Service.

        Args:
            service: the Service as it will be; changed in place.
            old: the Service as it was, on an update.

        Raises:
            Invalid: an address or port asked for is taken or outside the range.
        """
        spec = service.get("spec", {})
        problems = Problems()
        if old is not None:
            _carry_over(spec, old.get("spec", {}))
        self._address(spec, problems, _addresses(old))
        self._ports(spec, problems, _ports(old))
        problems.raise_for("", "Service", service["metadata"].get("name", ""))
        return _difference(service, old)

    def _address(self, spec: Object, problems: Problems, mine: set[str]) -> None:
        if spec.get("type") == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
            return
        wanted = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
        if wanted not in ("", "None") and wanted not in mine:
            self._check(wanted, problems)
        address = wanted or self._free_address()
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
        spec.setdefault("ipFamilies", ["IPv6" if self._network.version == 6 else "IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _check(self, address: str, problems: Problems) -> None:
        try:
            inside = ipaddress.ip_address(address) in self._network
        except ValueError:
            return
        if not inside:
            detail = f"failed to allocate IP {address}: the provided IP is not in the valid range. The range of valid IPs is {self._network}"
            problems.invalid("spec.clusterIPs", [address], detail)
        elif self._store.get(address_key(address)) is not None:
            detail = f"failed to allocate IP {address}: provided IP is already allocated"
            problems.invalid("spec.clusterIPs", [address], detail)

    def _free_address(self) -> str:
        size = self._network.num_addresses
        start = min(_RESERVED, size // 2) + 1
        for _ in range(_TRIES):
            address = str(self._network[self._rng.randrange(start, size - 1)])
            if self._store.get(address_key(address)) is None:
                return address
        for number in range(1, min(size - 1, 1 << 16)):
            address = str(self._network[number])
            if self._store.get(address_key(address)) is None:
                return address
        raise ApiError(f"no cluster IP is free in {self._network}")

    def _ports(self, spec: Object, problems: Problems, mine: set[int]) -> None:
        if spec.get("type") not in _WITH_PORTS:
            for port in spec.get("ports", ()):
                port.pop("nodePort", None)
            return
        taken: set[int] = set()
        for index, port in enumerate(spec.get("ports", ())):
            wanted = port.get("nodePort", 0)
            if wanted and wanted not in mine | taken:
                self._check_port(wanted, f"spec.ports[{index}].nodePort", problems)
            port["nodePort"] = wanted or self._free_port(taken)
            taken.add(port["nodePort"])

    def _check_port(self, port: int, path: str, problems: Problems) -> None:
        low, high = PORT_RANGE
        if not low <= port <= high:
            problems.invalid(
                path,
                port,
                f"provided port is not in the valid range. The range of valid ports is {low}-{high}",
            )
        elif self._store.get(port_key(port)) is not None:
            problems.invalid(path, port, "provided port is already allocated")

    def _free_port(self, taken: set[int]) -> int:
        low, high = PORT_RANGE
        for port in (self._rng.randint(low, high) for _ in range(_TRIES)):
            if port not in taken and self._store.get(port_key(port)) is None:
                return port
        for port in range(low, high + 1):
            if port not in taken and self._store.get(port_key(port)) is None:
                return port
        raise ApiError(f"no node port is free in {low}-{high}")


def release(service: Object) -> list[Op]:
    """What to write when a Service goes."""
    return _difference({"spec": {}, "metadata": service["metadata"]}, service)


def _carry_over(spec: Object, before: Object) -> None:
    """What a client leaves out of an update stays: its address, and ports by name or number."""
    if spec.get("type") != "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if field in before and not spec.get(field):
                spec[field] = before[field]
    if spec.get("type") in _WITH_PORTS:
        known = {
            (port.get("protocol"), port.get("port")): port.get("nodePort")
            for port in before.get("ports", ())
        }
        for port in spec.get("ports", ()):
            number = known.get((port.get("protocol"), port.get("port")))
            if number and not port.get("nodePort"):
                port["nodePort"] = number


def _addresses(service: Object | None) -> set[str]:
    spec = (service or {}).get("spec", {})
    return {address for address in spec.get("clusterIPs", ()) if address not in ("", "None")}


def _ports(service: Object | None) -> set[int]:
    spec = (service or {}).get("spec", {})
    return {port["nodePort"] for port in spec.get("ports", ()) if port.get("nodePort")}


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
