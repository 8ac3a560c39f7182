# SPDX-License-Identifier: Apache-2.0
"""Rules of EndpointSlices, and of certificate bundles."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100


def validate_slice(obj: Object, problems: Problems) -> None:
    """Each endpoint has addresses of the slice's type."""
    kind = obj.get("addressType")
    problems.choice("addressType", kind, ADDRESS_TYPES)
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > MAX_ENDPOINTS:
        problems.too_long("endpoints", MAX_ENDPOINTS)
        return
    for index, endpoint in enumerate(endpoints):
        path, addresses = f"endpoints[{index}].addresses", endpoint.get("addresses") or []
        if not addresses:
            problems.required(path, "must contain at least 1 address")
        if len(addresses) > MAX_ADDRESSES:
            problems.too_long(path, MAX_ADDRESSES)
        for address in addresses[:MAX_ADDRESSES]:
            if kind in ("IPv4", "IPv6") and _version(address) != kind:
                problems.invalid(path, address, f"must be a valid {kind} address")


def _version(address: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def validate_slice_update(new: Object, old: Object, problems: Problems) -> None:
    """The type of addresses stays."""
    problems.immutable("addressType", old.get("addressType"), new.get("addressType"))


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
