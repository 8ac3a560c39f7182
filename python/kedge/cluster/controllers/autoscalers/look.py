# SPDX-License-Identifier: Apache-2.0
"""What is to be done about one autoscaler, and doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import quantities
from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.autoscalers import limits
from kedge.cluster.controllers.autoscalers.metrics import Ask, Failure, Measured, Target, measure
from kedge.cluster.controllers.autoscalers.replicas import Scene, Tolerances
from kedge.cluster.controllers.autoscalers.status import ABLE, ACTIVE, LIMITED, Draft
from kedge.cluster.machinery import events, scales
from kedge.errors import BadRequest, KedgeError

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key

Object = dict[str, Any]

_NO_SCALE = "the HPA controller was unable to get the target's current scale: "


class Looks:
    """Looks at autoscalers, and remembers of each what it asked for and did lately.

    Args:
        client: reads and scales.
        informer: reads.
        ask: gets metrics from the API server.
    """

    def __init__(self, client: Client, informer: Informer, ask: Ask) -> None:
        self._client = client
        self._informer = informer
        self._ask = ask
        self._histories: dict[Key, limits.History] = {}
        self._selectors: dict[Key, str] = {}

    def forget(self, key: Key) -> None:
        """Drops what is remembered of an autoscaler that is gone."""
        self._histories.pop(key, None)
        self._selectors.pop(key, None)

    async def look(self, key: Key, stored: Object, draft: Draft) -> Object:
        """Works out what is to be done, and does it; the new status."""
        spec = stored["spec"]
        reference = spec["scaleTargetRef"]
        kind = scales.kind_of(str(reference.get("apiVersion", "")), reference["kind"])
        found = None
        why = f'no matches for kind "{reference["kind"]}" in group "{_group(reference)}"'
        if kind is not None:
            why = f'{kind.group_resource} "{reference["name"]}" not found'
            try:
                found = scales.read(self._client, kind, key[0], reference["name"])
            except KedgeError as error:
                why = str(error)
        if kind is None or found is None:
            draft.tell("FailedGetScale", why)
            draft.say(ABLE, False, "FailedGetScale", f"{_NO_SCALE}{why}")  # noqa: FBT003 - the status
            return draft.status(None, None, [], scaled=False)
        text = "the HPA controller was able to get the target's current scale"
        draft.say(ABLE, True, "SucceededGetScale", text)  # noqa: FBT003 - the status
        current = int(found["spec"]["replicas"])
        history = self._histories.setdefault(key, limits.History([(current, draft.now)]))
        least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
        statuses: list[Object] = []
        if current == 0:
            text = "scaling is disabled since the replica count of the target is zero"
            draft.say(ACTIVE, False, "ScalingDisabled", text)  # noqa: FBT003 - the status
            return draft.status(0, 0, [], scaled=False)
        if current > most:
            wanted, reason = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            wanted, reason = least, "Current number of replicas below Spec.MinReplicas"
        else:
            measured = await self._measure(key, spec, found, draft, statuses)
            if measured is None:
                return draft.status(current, None, statuses, scaled=False)
            limited = limits.limit(spec, history, current, measured.replicas, draft.now)
            draft.say(ABLE, True, *limited.stabilized)  # noqa: FBT003 - the status
            draft.say(LIMITED, limited.is_limited, *limited.range)
            wanted, reason = limited.replicas, "All metrics below target"
            if measured.replicas > current:
                reason = f"{measured.name} above target"
        if wanted == current:
            return draft.status(current, current, statuses, scaled=False)
        return await self._scale(
            key, kind, reference["name"], (current, wanted), (reason, draft, statuses)
        )

    async def _scale(
        self,
        key: Key,
        kind: Kind,
        name: str,
        numbers: tuple[int, int],
        about: tuple[str, Draft, list[Object]],
    ) -> Object:
        """Changes the number of replicas of a target; the status after that."""
        current, wanted = numbers
        reason, draft, statuses = about
        where = ObjectKey(kind.group, kind.resource, key[0], name)
        try:
            await self._client.scale(where, wanted)
        except KedgeError as error:
            text = f"New size: {wanted}; reason: {reason}; error: {error}"
            draft.tell("FailedRescale", text)
            text = f"the HPA controller was unable to update the target scale: {error}"
            draft.say(ABLE, False, "FailedUpdateScale", text)  # noqa: FBT003 - the status
            return draft.status(current, None, statuses, scaled=False)
        text = f"the HPA controller was able to update the target scale to {wanted}"
        draft.say(ABLE, True, "SucceededRescale", text)  # noqa: FBT003 - the status
        draft.tell("SuccessfulRescale", f"New size: {wanted}; reason: {reason}", events.NORMAL)
        self._histories[key].scaled(current, wanted, draft.now)
        return draft.status(current, wanted, statuses, scaled=True)

    async def _measure(
        self, key: Key, spec: Object, scaled: Object, draft: Draft, statuses: list[Object]
    ) -> Measured | None:
        """The highest number that a metric asks for; None if that cannot be told."""
        target = self._target(key, spec, scaled, draft)
        if isinstance(target, str):
            draft.tell("FailedComputeMetricsReplicas", target)
            return None
        best: Measured | None = None
        failures: list[Failure] = []
        for metric in spec["metrics"]:
            try:
                found = await measure(metric, target, self._ask)
            except Failure as failure:
                draft.tell(failure.reason, str(failure))
                failures.append(failure)
                statuses.append({"type": ""})
                continue
            statuses.append(found.status)
            if best is None or found.replicas > best.replicas:
                best = found
        if failures:
            first = failures[0]
            text = f"invalid metrics ({len(failures)} invalid out of {len(spec['metrics'])}), first error is: {first.whole}"
            if best is None or best.replicas < target.scene.wanted:
                why = f"the HPA was unable to compute the replica count: {first}"
                draft.say(ACTIVE, False, first.reason, why)  # noqa: FBT003 - the status
                draft.tell("FailedComputeMetricsReplicas", text)
                return None
        if best is not None:
            text = f"the HPA was able to successfully calculate a replica count from {best.name}"
            draft.say(ACTIVE, True, "ValidMetricFound", text)  # noqa: FBT003 - the status
        return best

    def _target(self, key: Key, spec: Object, scaled: Object, draft: Draft) -> Target | str:
        """What is scaled, or why that cannot be told."""
        text = scaled["status"].get("selector", "")
        if not text:
            why = "the HPA target's scale is missing a selector"
            draft.tell("SelectorRequired", "selector is required")
            draft.say(ACTIVE, False, "InvalidSelector", why)  # noqa: FBT003 - the status
            return "selector is required"
        try:
            pods = self._pods(key[0], text)
        except BadRequest as error:
            why = (
                f"couldn't convert selector into a corresponding internal selector object: {error}"
            )
            draft.tell("InvalidSelector", why)
            draft.say(ACTIVE, False, "InvalidSelector", why)  # noqa: FBT003 - the status
            return why
        self._selectors[key] = text
        others = [key, *self._sharers(key, set(pods))]
        if len(others) > 1:
            shown = " ".join(f"{{{name} {namespace}}}" for namespace, name in sorted(others))
            why = f"pods by selector {text} are controlled by multiple HPAs: [{shown}]"
            draft.tell("AmbiguousSelector", why)
            draft.say(ACTIVE, False, "AmbiguousSelector", why)  # noqa: FBT003 - the status
            return why
        wanted = int(scaled["spec"]["replicas"])
        scene = Scene(
            [orjson.loads(value) for value in pods.values()], wanted, tolerances(spec), draft.now
        )
        return Target(key[0], text, scene, int(scaled["status"].get("replicas", 0)))

    def _pods(self, namespace: str, selector: str) -> dict[str, bytes]:
        """The pods of a selector, by name."""
        rows = self._informer.store.list("", "pods", namespace=namespace, labels=selector).items
        return {row.key.name: row.value for row in rows}

    def _sharers(self, key: Key, pods: set[str]) -> list[Key]:
        """The other autoscalers that were last seen to select one of these pods."""
        return [
            other
            for other, text in self._selectors.items()
            if other != key and other[0] == key[0] and pods & self._pods(key[0], text).keys()
        ]


def tolerances(spec: Object) -> Tolerances:
    """How far a metric may be off before anything is done."""
    behavior = spec.get("behavior") or {}
    found = {
        name: float(quantities.parse(str(behavior[field]["tolerance"])))
        for name, field in (("down", "scaleDown"), ("up", "scaleUp"))
        if (behavior.get(field) or {}).get("tolerance") is not None
    }
    return Tolerances(**found)


def _group(reference: Object) -> str:
    return str(reference.get("apiVersion", "")).rpartition("/")[0]
