# SPDX-License-Identifier: Apache-2.0
"""What one metric of an autoscaler asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from kedge.api import selectors
from kedge.cluster.controllers.autoscalers import replicas, samples
from kedge.cluster.controllers.autoscalers.replicas import Proposal, Scene, Unknown
from kedge.errors import KedgeError

Object = dict[str, Any]
Ask = Callable[[str], Awaitable[Object]]
"""Gets what the API server has at a path."""

USAGE = "/apis/metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
_NAMES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


class Failure(Exception):  # noqa: N818 - as what it says
    """A metric that says nothing.

    Args:
        reason: for the Event and the condition.
        message: why.
        whole: why, in the words of the Event about all metrics.
    """

    def __init__(self, reason: str, message: str, whole: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.whole = whole


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled.

    Attributes:
        namespace: of the autoscaler, the target and the pods.
        selector: which pods are the target's, as text.
        scene: those pods, and how many are asked for now.
        present: how many replicas there are.
    """

    namespace: str
    selector: str
    scene: Scene
    present: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric asks for, what it is called, and what it says."""

    replicas: int
    name: str
    status: Object


async def measure(metric: Object, target: Target, ask: Ask) -> Measured:
    """What one metric asks for.

    Raises:
        Failure: it cannot be told.
    """
    kind = metric["type"]
    source = metric[_NAMES[kind]]
    try:
        match kind:
            case "Resource" | "ContainerResource":
                return await _resource(kind, source, target, ask)
            case "Pods":
                return await _pods(source, target, ask)
            case "Object":
                return await _object(source, target, ask)
            case _:
                return await _external(source, target, ask)
    except (Unknown, KedgeError) as error:
        what = {
            "Resource": f"{source.get('name')} resource metric",
            "ContainerResource": f"{source.get('container')} container metric",
            "Pods": "pods metric",
            "Object": "object metric",
            "External": f"{(source.get('metric') or {}).get('name')} external metric",
        }[kind]
        reason = f"FailedGet{kind}Metric"
        raise Failure(reason, str(error), f"failed to get {what} value: {error}") from error


async def _resource(kind: str, source: Object, target: Target, ask: Ask) -> Measured:
    resource, container = source["name"], source.get("container", "")
    wanted = source["target"]
    by_part = "averageUtilization" in wanted
    what = "utilization" if by_part else "usage"
    try:
        found = await _usage(resource, container, target, ask)
        if by_part:
            goal = (resource, container, wanted["averageUtilization"])
            proposal = replicas.by_utilization(target.scene, found, goal)
        else:
            value = samples.milli(wanted.get("averageValue"))
            proposal = replicas.by_value(target.scene, found, (resource, value))
    except Unknown as error:
        raise Unknown(f"failed to get {resource} {what}: {error}") from error
    current: Object = {"averageValue": samples.quantity(resource, proposal.usage)}
    name = f"{resource} resource"
    if by_part:
        current["averageUtilization"] = proposal.utilization
        of = "container resource" if container else "resource"
        name = f"{resource} {of} utilization (percentage of request)"
    status: Object = {"name": resource, "current": current}
    if container:
        status["container"] = container
    return Measured(proposal.replicas, name, {"type": kind, _NAMES[kind]: status})


async def _usage(
    resource: str, container: str, target: Target, ask: Ask
) -> dict[str, samples.Sample]:
    path = f"{USAGE}/namespaces/{quote(target.namespace)}/pods?{_query(target.selector)}"
    why = f"unable to get metrics for resource {resource}"
    try:
        items = (await ask(path)).get("items") or []
    except KedgeError as error:
        text = f"{why}: unable to fetch metrics from resource metrics API: {error}"
        raise Unknown(text) from error
    if not items:
        raise Unknown(f"{why}: no metrics returned from resource metrics API")
    return samples.of_pods(items, resource, container)


async def _pods(source: Object, target: Target, ask: Ask) -> Measured:
    metric = source["metric"]
    path = (
        f"{CUSTOM}/namespaces/{quote(target.namespace)}/pods/%2A/{quote(metric['name'], safe='')}"
    )
    items = await _custom(f"{path}?{_query(target.selector, metric)}", metric["name"], "", ask)
    goal = samples.milli(source["target"].get("averageValue"))
    proposal = replicas.by_value(target.scene, samples.of_values(items), ("", goal))
    current = {"averageValue": samples.quantity("", proposal.usage)}
    status = {"type": "Pods", "pods": {"metric": metric, "current": current}}
    return Measured(proposal.replicas, f"pods metric {metric['name']}", status)


async def _object(source: Object, target: Target, ask: Ask) -> Measured:
    metric, about = source["metric"], source["describedObject"]
    group = about.get("apiVersion", "").rpartition("/")[0]
    resource = f"{_plural(about['kind'])}.{group}" if group else _plural(about["kind"])
    where = (
        f"namespaces/{quote(target.namespace)}/{quote(resource)}/{quote(about['name'], safe='')}"
    )
    if (about["kind"], group) == ("Namespace", ""):
        where = f"namespaces/{quote(target.namespace)}/metrics"
    path = f"{CUSTOM}/{where}/{quote(metric['name'], safe='')}?{_query('', metric)}"
    shown = f" on {about['kind']} {target.namespace}/{about['name']}"
    items = await _custom(path, metric["name"], shown, ask)
    usage = samples.milli(items[0].get("value", "0"))
    wanted = source["target"]
    if "value" in wanted and wanted["type"] == "Value":
        proposal, current = _one_figure(usage, wanted, target)
        name = f"{about['kind']} metric {metric['name']}"
    else:
        proposal, current = _shared_figure(usage, wanted, target)
        name = f"external metric {metric['name']}({_shown(metric)})"
    status = {"metric": metric, "describedObject": about, "current": current}
    return Measured(proposal.replicas, name, {"type": "Object", "object": status})


async def _custom(path: str, name: str, shown: str, ask: Ask) -> list[Object]:
    why = f"unable to get metric {name}"
    try:
        items: list[Object] = (await ask(path)).get("items") or []
    except KedgeError as error:
        text = f"{why}: unable to fetch metrics from custom metrics API: {error}{shown}"
        raise Unknown(text) from error
    if not items:
        raise Unknown(f"{why}: no metrics returned from custom metrics API{shown}")
    return items


async def _external(source: Object, target: Target, ask: Ask) -> Measured:
    metric, wanted = source["metric"], source["target"]
    path = f"{EXTERNAL}/namespaces/{quote(target.namespace)}/{quote(metric['name'], safe='')}"
    text = selectors.text(metric.get("selector"))
    why = f"unable to get external metric {target.namespace}/{metric['name']}/{_shown(metric)}"
    try:
        items = (await ask(f"{path}?{_query(text)}")).get("items") or []
    except KedgeError as error:
        message = f"{why}: unable to fetch metrics from external metrics API: {error}"
        raise Unknown(message) from error
    if not items:
        raise Unknown(f"{why}: no metrics returned from external metrics API")
    usage = min(sum(samples.milli(one.get("value", "0")) for one in items), (1 << 63) - 1)
    figure = _shared_figure if "averageValue" in wanted else _one_figure
    proposal, current = figure(usage, wanted, target)
    name = f"external metric {metric['name']}({_shown(metric)})"
    status = {"type": "External", "external": {"metric": metric, "current": current}}
    return Measured(proposal.replicas, name, status)


def _one_figure(usage: int, wanted: Object, target: Target) -> tuple[Proposal, Object]:
    scene = target.scene
    ready = replicas.ready_count(scene.pods) if scene.wanted else 0
    ratio = usage / samples.milli(wanted.get("value"))
    count = replicas.by_ratio(ratio, ready, scene.wanted, scene.tolerances)
    return Proposal(count, usage), {"value": samples.quantity("", usage)}


def _shared_figure(usage: int, wanted: Object, target: Target) -> tuple[Proposal, Object]:
    share = samples.milli(wanted.get("averageValue"))
    proposal = replicas.by_share(usage, share, target.present, target.scene.tolerances)
    return proposal, {"averageValue": samples.quantity("", proposal.usage)}


def _query(selector: str, metric: Object | None = None) -> str:
    wanted = {"labelSelector": selector}
    if metric is not None and metric.get("selector"):
        wanted["metricLabelSelector"] = selectors.text(metric["selector"])
    return urlencode({name: value for name, value in wanted.items() if value})


def _plural(kind: str) -> str:
    word = kind.lower()
    if word.endswith("s"):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _shown(metric: Object) -> str:
    text = selectors.text(metric.get("selector"))
    return f"&LabelSelector{{{text}}}" if text else "nil"
