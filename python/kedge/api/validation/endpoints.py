# SPDX-License-Identifier: Apache-2.0
"""Rules of Endpoints and EndpointSlices, and of certificate bundles."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
PROTOCOLS = ("SCTP", "TCP", "UDP")
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_PORTS = 20000
MAX_HINTS = 8
NOT_AN_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
PORT_RULE = "must be between 1 and 65535, inclusive"
_RANGES = {
    "is_loopback": "may not be in the loopback range (127.0.0.0/8, ::1/128)",
    "is_link_local": "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
}


def validate_slice(obj: Object, problems: Problems) -> None:
    """Each endpoint has addresses of the slice's type, each port a name of its own."""
    kind = obj.get("addressType")
    problems.choice("addressType", kind, ADDRESS_TYPES)
    _slice_ports(obj.get("ports") or [], problems)
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > MAX_ENDPOINTS:
        problems.too_many("endpoints", len(endpoints), MAX_ENDPOINTS)
        return
    for index, endpoint in enumerate(endpoints):
        path = f"endpoints[{index}]"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            problems.required(f"{path}.addresses", "must contain at least 1 address")
        if len(addresses) > MAX_ADDRESSES:
            problems.too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES)
        for number, address in enumerate(addresses[:MAX_ADDRESSES]):
            _slice_address(address, kind, f"{path}.addresses", number, problems)
        _about(endpoint, path, problems)
        _hints(endpoint.get("hints") or {}, f"{path}.hints", problems)


def _slice_address(
    address: str, kind: str | None, path: str, number: int, problems: Problems
) -> None:
    where = f"{path}[{number}]"
    if kind == "FQDN":
        if "." not in address.rstrip("."):
            detail = "should be a domain with at least two segments separated by dots"
            problems.invalid(where, address, detail)
        problems.text(where, address, names.subdomain(address.rstrip(".")))
    elif kind in ("IPv4", "IPv6"):
        version = _version(address)
        if not version:
            problems.invalid(where, address, NOT_AN_ADDRESS)
            return
        if version != kind:
            problems.invalid(path, address, f"must be an {kind} address")
        special(address, where, problems)


def _slice_ports(ports: list[Object], problems: Problems) -> None:
    if len(ports) > MAX_PORTS:
        problems.too_many("ports", len(ports), MAX_PORTS)
        return
    seen: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port.get("name", "")
        if name:
            problems.text(f"{path}.name", name, names.label(name))
        if name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        problems.choice(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        if port.get("appProtocol") is not None:
            wanted = port["appProtocol"]
            problems.text(f"{path}.appProtocol", wanted, names.qualified(wanted))


def _hints(hints: Object, path: str, problems: Problems) -> None:
    for field, rule in (("forZones", names.label_value), ("forNodes", names.subdomain)):
        named = [one.get("name", "") for one in hints.get(field) or ()]
        if len(named) > MAX_HINTS:
            problems.too_many(f"{path}.{field}", len(named), MAX_HINTS)
            continue
        for index, name in enumerate(named):
            where = f"{path}.{field}[{index}].name"
            if name in named[:index]:
                problems.duplicate(where, name)
            problems.text(where, name, rule(name))


def _about(endpoint: Object, path: str, problems: Problems) -> None:
    for field, rule in (("nodeName", names.subdomain), ("hostname", names.label)):
        if endpoint.get(field) is not None:
            problems.text(f"{path}.{field}", endpoint[field], rule(endpoint[field]))


def special(address: str, path: str, problems: Problems) -> None:
    """Notes an address that cannot lead anywhere from elsewhere."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        problems.invalid(path, address, f"may not be unspecified ({address})")
    for name, detail in _RANGES.items():
        if getattr(ip, name):
            problems.invalid(path, address, detail)
    if ip in (_LOCAL_MULTICAST_6 if ip.version == 6 else _LOCAL_MULTICAST_4):
        detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        problems.invalid(path, address, detail)


_LOCAL_MULTICAST_4 = ipaddress.ip_network("224.0.0.0/24")
_LOCAL_MULTICAST_6 = ipaddress.ip_network("ff02::/16")


def _version(address: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def validate_slice_update(new: Object, old: Object, problems: Problems) -> None:
    """The type of addresses stays."""
    problems.immutable("addressType", old.get("addressType"), new.get("addressType"))


def validate_endpoints(obj: Object, problems: Problems) -> None:
    """Each subset has addresses, and each of its ports a name if there are several."""
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            problems.required(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(field) or ()):
                where = f"{path}.{field}[{number}]"
                _about(address, where, problems)
                if not _version(address.get("ip", "")):
                    problems.invalid(f"{where}.ip", address.get("ip", ""), NOT_AN_ADDRESS)
                else:
                    special(address["ip"], f"{where}.ip", problems)
        _endpoints_ports(subset.get("ports") or [], f"{path}.ports", problems)


def _endpoints_ports(ports: list[Object], path: str, problems: Problems) -> None:
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name", "")
        if name:
            problems.text(f"{where}.name", name, names.label(name))
        elif len(ports) > 1:
            problems.required(f"{where}.name")
        if not 1 <= port.get("port", 0) <= 65535:
            problems.invalid(f"{where}.port", port.get("port", 0), PORT_RULE)
        problems.choice(f"{where}.protocol", port.get("protocol"), PROTOCOLS)
        if port.get("appProtocol") is not None:
            wanted = port["appProtocol"]
            problems.text(f"{where}.appProtocol", wanted, names.qualified(wanted))


def validate_trust_bundle(obj: Object, problems: Problems) -> None:
    """A bundle has certificates; a signer's is named after it."""
    spec, name = obj.get("spec", {}), obj["metadata"].get("name", "")
    if "-----BEGIN CERTIFICATE-----" not in spec.get("trustBundle", ""):
        problems.invalid(
            "spec.trustBundle", "<value omitted>", "at least one trust anchor must be provided"
        )
    signer = spec.get("signerName", "")
    if signer and not name.startswith(signer.replace("/", ":") + ":"):
        detail = f"ClusterTrustBundle for signerName {signer} must be named with prefix {signer.replace('/', ':')}:"
        problems.invalid("metadata.name", name, detail)
    if not signer and ":" in name:
        problems.invalid(
            "metadata.name",
            name,
            'ClusterTrustBundle without signer name must not have ":" in its name',
        )


def validate_trust_bundle_update(new: Object, old: Object, problems: Problems) -> None:
    """The signer stays."""
    before, after = old.get("spec", {}), new.get("spec", {})
    problems.immutable("spec.signerName", before.get("signerName"), after.get("signerName"))
