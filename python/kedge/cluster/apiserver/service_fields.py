# SPDX-License-Identifier: Apache-2.0
"""The fields of a Service that hang together, as far as no address or port is given out. Pure.

What a client leaves out of an update stays, what a new type has no use for goes, and one of
addresses and families tells the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.defaults.services import is_reached_from_outside
from kedge.api.validation import addresses
from kedge.api.validation.services import HINTS, MODE, is_headless, needs_health_check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.validation import Problems

Object = dict[str, Any]

WITH_PORTS = ("NodePort", "LoadBalancer")
_ADDRESSES = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}


def has_addresses(spec: Object) -> bool:
    """Whether a Service is more than another name."""
    return spec.get("type") != "ExternalName"


def has_node_ports(spec: Object) -> bool:
    """Whether a Service is at ports of nodes."""
    return spec.get("type") in WITH_PORTS


def is_loose(spec: Object) -> bool:
    """Whether a Service has neither an address nor a selector: what it leads to may be of any family."""
    return spec.get("clusterIP") == "None" and not spec.get("selector")


def carry_over(spec: Object, before: Object | None) -> None:
    """Takes what was given out before and the client does not mention from the old Service."""
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "healthCheckNodePort"):
        if field in spec and not spec[field]:
            del spec[field]
    for port in spec.get("ports") or ():
        if not port.get("nodePort"):
            port.pop("nodePort", None)
    if before is None:
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return
    if has_addresses(before) and has_addresses(spec):
        for field in ("clusterIP", "clusterIPs"):
            if field in before and field not in spec:
                spec[field] = before[field]
    if has_node_ports(before) and has_node_ports(spec):
        _carry_ports(spec.get("ports") or [], before.get("ports") or [])
    if (
        needs_health_check(before)
        and needs_health_check(spec)
        and before.get("healthCheckNodePort")
    ):
        spec.setdefault("healthCheckNodePort", before["healthCheckNodePort"])
    _follow(spec, before)


def _carry_ports(ports: list[Object], before: list[Object]) -> None:
    """A port keeps its node port by its name, unless another one has it now."""
    known = {port.get("name", ""): port.get("nodePort", 0) for port in before}
    used = {port["nodePort"] for port in ports if port.get("nodePort")} & set(known.values())
    for port in ports:
        number = known.get(port.get("name", ""), 0)
        if not port.get("nodePort") and number and number not in used:
            port["nodePort"] = number


def _follow(spec: Object, before: Object) -> None:
    """Who changes ``clusterIP`` alone means the list of addresses too."""
    one, every = spec.get("clusterIP"), spec.get("clusterIPs")
    if one == before.get("clusterIP"):
        if not every and before.get("clusterIPs"):
            spec["clusterIPs"] = before["clusterIPs"]
    elif one and every == before.get("clusterIPs"):
        spec["clusterIPs"] = [one]
    elif not one and every == before.get("clusterIPs"):
        spec.pop("clusterIPs", None)


def keeps_both_as_they_are(spec: Object, before: Object | None) -> bool:
    """Whether nothing about families is asked for: a cluster that gets or loses one changes no Service."""
    return (
        before is not None
        and has_addresses(spec)
        and spec.get("type") == before.get("type")
        and spec.get("ipFamilyPolicy") == "PreferDualStack"
        and before.get("ipFamilyPolicy") in (None, "PreferDualStack")
        and spec.get("clusterIPs") == before.get("clusterIPs")
        and spec.get("ipFamilies") == before.get("ipFamilies")
    )


def choose_families(
    spec: Object, before: Object | None, configured: Sequence[str], problems: Problems
) -> None:
    """Fills in the policy and the families.

    Args:
        spec: the Service's; changed in place.
        before: as it was, on an update.
        configured: the families that the cluster has addresses of, its own first.
        problems: gets what cannot be.
    """
    if not has_addresses(spec) or keeps_both_as_they_are(spec, before):
        return
    if spec.get("ipFamilyPolicy") is None:
        spec["ipFamilyPolicy"] = _policy(spec, before)
    policy = spec["ipFamilyPolicy"]
    addresses.validate(spec, problems)
    if problems:
        return
    if before is not None:
        _reduce(spec, before, problems)
    if policy == "SingleStack":
        _refuse_two(spec, problems)
    _infer(spec, configured, problems)
    if problems:
        return
    if is_loose(spec):
        families = spec.get("ipFamilies") or [configured[0]]
        if len(families) < 2 and policy != "SingleStack":
            families = [*families, _OTHER[families[0]]]
        spec["ipFamilies"] = families
    else:
        _configured_families(spec, configured, problems)


def _configured_families(spec: Object, configured: Sequence[str], problems: Problems) -> None:
    """The families asked for, as far as the cluster has them."""
    policy = spec["ipFamilyPolicy"]
    if policy == "RequireDualStack" and len(configured) < 2:
        detail = "this cluster is not configured for dual-stack services"
        problems.invalid("spec.ipFamilyPolicy", policy, detail)
    families = list(spec.get("ipFamilies") or [configured[0]])
    for index, family in enumerate(families):
        if family not in configured:
            detail = "not configured on this cluster"
            problems.invalid(f"spec.ipFamilies[{index}]", family, detail)
    if problems:
        return
    if policy != "SingleStack" and len(families) == 1 and len(configured) == 2:
        families.append(_OTHER[families[0]])
    spec["ipFamilies"] = families


def _policy(spec: Object, before: Object | None) -> str:
    if before is not None and before.get("ipFamilyPolicy"):
        return str(before["ipFamilyPolicy"])
    return "RequireDualStack" if is_loose(spec) else "SingleStack"


def _reduce(spec: Object, before: Object, problems: Problems) -> None:
    """Only a policy of one family gives up the second address."""
    policy = spec["ipFamilyPolicy"]
    for field, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        new, old = spec.get(field) or [], before.get(field) or []
        if policy == "SingleStack":
            if new == old and len(new) > 1:
                spec[field] = new[:1]
        elif new and len(new) < len(old):
            detail = f"must be 'SingleStack' to release the secondary {what}"
            problems.invalid("spec.ipFamilyPolicy", policy, detail)


def _refuse_two(spec: Object, problems: Problems) -> None:
    for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if len(spec.get(field) or ()) == 2:
            detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            problems.invalid("spec.ipFamilyPolicy", "SingleStack", detail)


def _infer(spec: Object, configured: Sequence[str], problems: Problems) -> None:
    """Families that are not named are those of the addresses that are."""
    families = list(spec.get("ipFamilies") or ())
    for index, address in enumerate(spec.get("clusterIPs") or ()):
        if address == "None":
            break
        family = addresses.family_of(address)
        if index < len(families):
            continue
        if family not in configured:
            detail = f"{family} is not configured on this cluster"
            problems.invalid(f"spec.clusterIPs[{index}]", spec["clusterIPs"], detail)
        else:
            families.append(family)
    if families:
        spec["ipFamilies"] = families


def drop_unused(service: Object, old: Object) -> None:
    """Takes away what the new type has no use for, where the client has not changed it too."""
    spec, before = service["spec"], old.get("spec", {})
    if has_addresses(before) and not has_addresses(spec):
        same = all(spec.get(field) == before.get(field) for field in _ADDRESSES[:2])
        for field in _ADDRESSES:
            if same if field in _ADDRESSES[:2] else spec.get(field) == before.get(field):
                spec.pop(field, None)
    if (
        has_node_ports(before)
        and not has_node_ports(spec)
        and _node_ports(spec) <= _node_ports(before)
    ):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    was, is_ = before.get("type") == "LoadBalancer", spec.get("type") == "LoadBalancer"
    for field, had, has in (
        ("healthCheckNodePort", needs_health_check(before), needs_health_check(spec)),
        ("allocateLoadBalancerNodePorts", was, is_),
        ("loadBalancerClass", was, is_),
        (
            "externalTrafficPolicy",
            is_reached_from_outside(before),
            is_reached_from_outside(spec),
        ),
    ):
        if had and not has and spec.get(field) == before.get(field):
            spec.pop(field, None)
    if not is_:
        service["status"] = {**(service.get("status") or {}), "loadBalancer": {}}


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def warnings(service: Object) -> list[str]:
    """What is accepted and will not do what one may think."""
    spec = service.get("spec", {})
    found: list[str] = []
    annotations = service["metadata"].get("annotations") or {}
    if HINTS in annotations:
        found.append(f"annotation {HINTS} is deprecated, please use {MODE} instead")
    outside = bool(spec.get("externalIPs"))
    if is_headless(spec):
        for field, is_set in (
            ("loadBalancerIP", bool(spec.get("loadBalancerIP"))),
            ("externalIPs", outside),
            ("SessionAffinity", spec.get("sessionAffinity") != "None"),
        ):
            if is_set:
                found.append(f"spec.{field} is ignored for headless services")
    elif outside and has_addresses(spec):
        found.append(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        )
    if outside and not has_addresses(spec):
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if has_addresses(spec) and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found
