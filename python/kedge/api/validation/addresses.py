# SPDX-License-Identifier: Apache-2.0
"""Rules of the addresses of Services: one per family, in an order that stays."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kedge.api.validation.endpoints import NOT_AN_ADDRESS

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

FAMILIES = ("IPv4", "IPv6")
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_FIXED = "may not change once set"


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def family_of(address: str) -> str:
    """``IPv4`` or ``IPv6``."""
    return "IPv6" if ":" in address else "IPv4"


def validate(spec: Object, problems: Problems) -> None:
    """Addresses, families and policy of a Service that is not but a name."""
    first, every = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if first and not every:
        problems.required("spec.clusterIPs")
    elif first and every[0] != first:
        problems.invalid("spec.clusterIPs", every, "first value must match `clusterIP`")
    elif every and not first:
        detail = "must be empty when `clusterIP` is not specified"
        problems.invalid("spec.clusterIPs", every, detail)
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        problems.choice(f"spec.ipFamilies[{index}]", family, FAMILIES)
        if family in families[:index]:
            problems.duplicate(f"spec.ipFamilies[{index}]", family)
    if spec.get("ipFamilyPolicy") is not None:
        problems.choice("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], POLICIES)
    if _are_addresses(every, problems):
        _fit(every, families, problems)


def _are_addresses(every: list[str], problems: Problems) -> bool:
    right = True
    for index, address in enumerate(every):
        if index == 0 and address == "None":
            if len(every) > 1:
                detail = "'None' must be the first and only value"
                problems.invalid("spec.clusterIPs", every, detail)
                right = False
        elif not is_address(address):
            problems.invalid(f"spec.clusterIPs[{index}]", address, NOT_AN_ADDRESS)
            right = False
    if len(every) > 2:
        problems.invalid("spec.clusterIPs", every, "may only hold up to 2 values")
    return right


def _fit(every: list[str], families: list[str], problems: Problems) -> None:
    """Two addresses are of two families, in the order of the families."""
    if every[:1] == ["None"]:
        return
    mine = [family_of(address) for address in every]
    if len(mine) > 1 and (len(mine) > 2 or len(set(mine)) < 2):
        detail = "may specify no more than one IP for each IP family"
        problems.invalid("spec.clusterIPs", every, detail)
    for index, (address, family) in enumerate(zip(every, families, strict=False)):
        if family in FAMILIES and mine[index] != family:
            detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            problems.invalid(f"spec.clusterIPs[{index}]", address, detail)


def validate_change(after: Object, before: Object, problems: Problems) -> None:
    """The first address and family stay; the second comes, and goes only when told to."""
    if "ExternalName" in (before.get("type"), after.get("type")):
        return
    was, is_ = before.get("clusterIP") == "None", after.get("clusterIP") == "None"
    if not (was and is_):
        _kept("clusterIPs", "clusterIP", after, before, problems)
    if not was and not is_:
        _kept("ipFamilies", "ipFamily", after, before, problems)


def _kept(field: str, one: str, after: Object, before: Object, problems: Problems) -> None:
    old, new = before.get(field) or [], after.get(field) or []
    if len(old) == len(new):
        for index, (mine, other) in enumerate(zip(old, new, strict=True)):
            if mine != other:
                place = index if field == "clusterIPs" else 0
                problems.invalid(f"spec.{field}[{place}]", new, _FIXED)
        return
    if old and not new:
        problems.invalid(f"spec.{field}[0]", None, f"primary {one} can not be unset")
    elif old and old[0] != new[0]:
        problems.invalid(f"spec.{field}[0]", new, _FIXED)
    policy = after.get("ipFamilyPolicy")
    if len(old) > len(new) == 1 and policy != "SingleStack":
        detail = f"must be set to 'SingleStack' when releasing the secondary {one}"
        problems.invalid("spec.ipFamilyPolicy", policy, detail)
