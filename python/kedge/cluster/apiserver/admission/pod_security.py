# SPDX-License-Identifier: Apache-2.0
"""PodSecurity: the standard that a namespace's labels ask for, enforced on pods and told of for workloads.

Without labels everything is allowed. There are no exemptions.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import pod_security
from kedge.api.keys import ObjectKey
from kedge.api.pod_security import PRIVILEGED, LevelVersion, Policy
from kedge.api.validation import Problems
from kedge.cluster.apiserver.admission.write import CREATE, UPDATE, Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

Object = dict[str, Any]

WORKLOADS = frozenset({
    ("", "podtemplates"), ("", "replicationcontrollers"), ("apps", "daemonsets"), ("apps", "deployments"),
    ("apps", "replicasets"), ("apps", "statefulsets"), ("batch", "cronjobs"), ("batch", "jobs"),
})  # fmt: skip
MAX_PODS = 3000
"""Existing pods that are looked at when a namespace's standard becomes stricter."""
MAX_SECONDS = 1.0
_PAGE = 200
_CHANGES = ("", "ephemeralcontainers", "resize")


class PodSecurity(Plugin):
    """The plugin."""

    operations = (CREATE, UPDATE)

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod, makes pods, or says what pods must be."""
        if is_core(kind, "pods"):
            return subresource in _CHANGES
        is_workload = (kind.group, kind.resource) in WORKLOADS
        return not subresource and (is_workload or is_core(kind, "namespaces"))

    async def validate(self, write: Write) -> None:
        """Refuses, or warns.

        Raises:
            Forbidden: a pod violates what is enforced.
            Invalid: a namespace's labels are not as they must be.
        """
        if not write.kind.namespaced:
            await self._namespace(write)
            return
        policy = self._policy(write.key.namespace)
        if policy.asks_nothing:
            return
        if is_core(write.kind, "pods"):
            if write.operation == CREATE or pod_security.is_significant(write.obj, write.old):
                _check(write, policy, write.obj)
        elif write.options.user is not None:
            template = pod_security.template_of(write.obj)
            if template is not None:
                _warn(write, policy.warn, template)

    def _policy(self, namespace: str) -> Policy:
        found = self.store.get(ObjectKey("", "namespaces", "", namespace))
        if found is None or pod_security.LABELS.encode() not in found.value:
            return Policy()
        return pod_security.policy_of(orjson.loads(found.value)["metadata"].get("labels"))

    async def _namespace(self, write: Write) -> None:
        problems, before = Problems(), Problems()
        new = pod_security.policy_of(write.obj["metadata"].get("labels"), problems)
        if write.operation == CREATE:
            problems.raise_for("", "Namespace", write.key.name)
            return
        old = pod_security.policy_of(write.old["metadata"].get("labels"), before)
        if problems.causes != before.causes:
            problems.raise_for("", "Namespace", write.key.name)
        wanted, had = new.enforce, old.enforce
        if wanted == had or wanted.level == PRIVILEGED or write.options.user is None:
            return
        if wanted.minor != had.minor or wanted.is_stricter(had):
            for text in await self._existing(write.key.name, wanted):
                write.warn(text)

    async def _existing(self, namespace: str, wanted: LevelVersion) -> list[str]:
        """Warnings about pods that are there already."""
        ends = time.monotonic() + MAX_SECONDS
        found: dict[str, list[str]] = defaultdict(list)
        rows = self.store.list("", "pods", namespace=namespace, limit=MAX_PODS)
        checked = 0
        for row in rows.items:
            pod = orjson.loads(row.value)
            bad = pod_security.violations(wanted, pod["metadata"], pod["spec"])
            if bad:
                found[pod_security.in_short(bad)].append(row.key.name)
            checked += 1
            if checked % _PAGE == 0:
                await asyncio.sleep(0)
                if time.monotonic() > ends:
                    break
        texts = []
        if checked < len(rows.items) or rows.continue_token:
            count = len(self.store.list("", "pods", namespace=namespace).items)
            texts.append(
                f"new PodSecurity enforce level only checked against the first {checked} of {count} existing pods"
            )
        if found:
            texts.append(
                f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{wanted}"'
            )
        return texts + sorted(_together(names, text) for text, names in found.items())


def _together(names: list[str], text: str) -> str:
    others = len(names) - 1
    more = "" if not others else f" (and {others} other pod{'s' if others > 1 else ''})"
    return f"{min(names)}{more}: {text}"


def _check(write: Write, policy: Policy, pod: Object) -> None:
    found = pod_security.violations(policy.enforce, pod["metadata"], pod["spec"])
    if found:
        why = f'violates PodSecurity "{policy.enforce}": {pod_security.in_detail(found)}'
        raise write.forbidden(why)
    if write.options.user is not None:
        _warn(write, policy.warn, pod)


def _warn(write: Write, wanted: LevelVersion, pod: Object) -> None:
    found = pod_security.violations(wanted, pod.get("metadata") or {}, pod.get("spec") or {})
    if found:
        write.warn(f'would violate PodSecurity "{wanted}": {pod_security.in_detail(found)}')
