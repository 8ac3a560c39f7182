# SPDX-License-Identifier: Apache-2.0
"""What a LimitRange says about pods and claims: defaults into containers, bounds. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kedge.api import amounts, quantities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.api.amounts import Amounts

Object = dict[str, Any]

ANNOTATION = "kubernetes.io/limit-ranger"


def complete(limit_range: Object, pod: Object) -> None:
    """Gives containers the requests and limits that they do not state, and notes it on the pod."""
    found: dict[str, Amounts] = {"requests": {}, "limits": {}}
    for item in _items(limit_range, "Container"):
        found["requests"].update(item.get("defaultRequest") or {})
        found["limits"].update(item.get("default") or {})
    notes = []
    for field, words in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(field) or ():
            for part, word in (("requests", "request"), ("limits", "limit")):
                added = _fill(container, part, found[part])
                if added:
                    name = container.get("name", "")
                    notes.append(f"{', '.join(added)} {word} for {words} {name}")
    if notes:
        text = f"LimitRanger plugin set: {'; '.join(notes)}"
        pod["metadata"].setdefault("annotations", {})[ANNOTATION] = text


def _fill(container: Object, part: str, defaults: Amounts) -> list[str]:
    have = (container.get("resources") or {}).get(part) or {}
    added = sorted(defaults.keys() - have.keys())
    if added:
        resources = container.setdefault("resources", {})
        resources[part] = {**have, **{name: defaults[name] for name in added}}
    return added


def check_pod(limit_range: Object, pod: Object) -> list[str]:
    """What a pod has against the bounds of containers and of pods."""
    found: list[str] = []
    for item in limit_range.get("spec", {}).get("limits") or ():
        if item.get("type") == "Container":
            for field in ("containers", "initContainers"):
                for container in pod["spec"].get(field) or ():
                    resources = container.get("resources") or {}
                    requests = resources.get("requests") or {}
                    found += _check(item, requests, resources.get("limits") or {})
        elif item.get("type") == "Pod":
            spec = {"spec": {**pod["spec"], "overhead": {}}}
            found += _check(item, amounts.of_pod(spec, "requests"), amounts.of_pod(spec, "limits"))
    return found


def check_claim(limit_range: Object, claim: Object) -> list[str]:
    """What a claim has against the bounds of claims; only requests count."""
    requests = claim.get("spec", {}).get("resources", {}).get("requests") or {}
    found: list[str] = []
    for item in _items(limit_range, "PersistentVolumeClaim"):
        found += _too_little(item, requests, {})
        for name, bound in sorted((item.get("max") or {}).items()):
            head = f"maximum {name} usage per {item['type']} is {bound}"
            if name not in requests:
                found.append(f"{head}.  No request is specified")
            elif amounts.is_more(requests[name], bound):
                found.append(f"{head}, but request is {requests[name]}")
    return found


def _items(limit_range: Object, kind: str) -> Iterator[Object]:
    for item in limit_range.get("spec", {}).get("limits") or ():
        if item.get("type") == kind:
            yield item


def _check(item: Object, requests: Amounts, limits: Amounts) -> list[str]:
    return [
        *_too_little(item, requests, limits),
        *_too_much(item, requests, limits),
        *_unbalanced(item, requests, limits),
    ]


def _too_little(item: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, bound in sorted((item.get("min") or {}).items()):
        head = f"minimum {name} usage per {item['type']} is {bound}"
        if name not in requests:
            yield f"{head}.  No request is specified"
        elif amounts.is_more(bound, requests[name]):
            yield f"{head}, but request is {requests[name]}"
        elif name in limits and amounts.is_more(bound, limits[name]):
            yield f"{head}, but limit is {limits[name]}"


def _too_much(item: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, bound in sorted((item.get("max") or {}).items()):
        head = f"maximum {name} usage per {item['type']} is {bound}"
        if name not in limits:
            yield f"{head}.  No limit is specified"
        elif amounts.is_more(limits[name], bound):
            yield f"{head}, but limit is {limits[name]}"
        elif name in requests and amounts.is_more(requests[name], bound):
            yield f"{head}, but request is {requests[name]}"


def _unbalanced(item: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, bound in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        head = f"{name} max limit to request ratio per {item['type']} is {bound}"
        request = quantities.parse(requests.get(name, "0"))
        limit = quantities.parse(limits.get(name, "0"))
        if not request:
            yield f"{head}, but no request is specified or request is 0"
        elif not limit:
            yield f"{head}, but no limit is specified or limit is 0"
        elif limit > quantities.parse(bound) * request:
            yield f"{head}, but provided ratio is {Decimal(limit / request):.6f}"


def defaults(obj: Object) -> None:
    """The defaults of a LimitRange itself: bounds of containers are their defaults too."""
    for item in obj.get("spec", {}).get("limits") or ():
        if item.get("type") != "Container":
            continue
        default = {**(item.get("max") or {}), **(item.get("default") or {})}
        request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
        if default:
            item["default"] = default
        if request:
            item["defaultRequest"] = request
