# SPDX-License-Identifier: Apache-2.0
"""The one form of an Endpoints object's subsets. Pure.

The same addresses and ports can be grouped in many ways; written in one way, two can be compared.
"""

from __future__ import annotations

import json
from typing import Any

Object = dict[str, Any]
_Address = tuple[str, str]
"""An IP and the uid of what has it: two pods may share an address."""


def repack(subsets: list[Object]) -> list[Object]:
    """Groups addresses that offer the same ports, sorted, each once per port; not ready wins."""
    known: dict[_Address, Object] = {}
    ports: dict[str, Object | None] = {}
    offers: dict[str, dict[_Address, bool]] = {}
    for subset in subsets:
        for port in subset.get("ports") or (None,):
            text = json.dumps(port, sort_keys=True) if port else ""
            ports[text] = port
            offered = offers.setdefault(text, {})
            for field, ready in (("addresses", True), ("notReadyAddresses", False)):
                for address in subset.get(field) or ():
                    one = _key(address)
                    known.setdefault(one, address)
                    offered[one] = offered.get(one, True) and ready
    groups: dict[tuple[tuple[_Address, bool], ...], list[str]] = {}
    for text, offered in offers.items():
        if not offered:
            continue
        groups.setdefault(tuple(sorted(offered.items())), []).append(text)
    packed = [
        _subset(group, known, [ports[text] for text in sorted(texts)])
        for group, texts in groups.items()
    ]
    return sorted(packed, key=lambda subset: json.dumps(subset.get("ports")))


def _key(address: Object) -> _Address:
    return address.get("ip", ""), (address.get("targetRef") or {}).get("uid", "")


def _subset(
    group: tuple[tuple[_Address, bool], ...],
    known: dict[_Address, Object],
    ports: list[Object | None],
) -> Object:
    subset: Object = {}
    ready = [known[one] for one, is_ready in group if is_ready]
    unready = [known[one] for one, is_ready in group if not is_ready]
    named = [port for port in ports if port]
    if ready:
        subset["addresses"] = ready
    if unready:
        subset["notReadyAddresses"] = unready
    if named:
        subset["ports"] = named
    return subset
