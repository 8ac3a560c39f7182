# SPDX-License-Identifier: Apache-2.0
"""MutatingWebhook and ValidatingWebhook: programs of the cluster's users that see writes before they are stored.

``hooks`` says who wants to see what, ``review`` what is asked and answered, ``calling`` and ``tunnel`` reach them. Webhooks change
objects one after the other, then judge them all at once. None is asked about webhook configurations, or about what
is no object: reviews, and streams to pods, which never come here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kedge.api import defaults, patches
from kedge.api.keys import ObjectKey
from kedge.api.meta import new_uid
from kedge.cluster.apiserver import bodies, strategies
from kedge.cluster.apiserver.admission.webhooks import review
from kedge.cluster.apiserver.admission.webhooks.calling import Caller
from kedge.cluster.apiserver.admission.webhooks.hooks import (
    GROUP,
    MUTATING,
    VALIDATING,
    Hook,
    hooks_of,
    is_about,
    selects,
)
from kedge.cluster.apiserver.admission.write import (
    CREATE,
    DELETE,
    UPDATE,
    Plugin,
    Rounds,
    Write,
    is_core,
)
from kedge.errors import ApiError, BadRequest, Invalid

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.admission.webhooks.review import Verdict
    from kedge.store import Store

Object = dict[str, Any]

_log = logging.getLogger(__name__)

SILENT_SECONDS = 60.0
"""How often the log tells of a webhook that cannot be asked and need not be."""
_OWNED = ("name", "namespace", "uid", "creationTimestamp", "generation")
"""Metadata of new objects that webhooks do not change."""


class _Webhooks(Plugin):
    """What both plugins share: the webhooks of one kind of configuration, read when one was written."""

    operations = (CREATE, UPDATE, DELETE)
    resource: ClassVar[str]

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._hooks: list[Hook] | None = None
        self._silent: dict[tuple[str, str], float] = {}
        self.caller = Caller(store)

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is no configuration of admission itself."""
        del subresource
        return kind.group != GROUP

    def written(self, key: ObjectKey) -> None:
        """Reads the configurations again when one may have changed."""
        if key.resource == self.resource and key.group == GROUP:
            self._hooks = None
            self._silent.clear()

    def named(self, write: Write) -> list[Hook]:
        """The webhooks whose rules name a write."""
        if self._hooks is None:
            rows = self.store.list(GROUP, self.resource).items
            self._hooks = hooks_of(orjson.loads(row.value) for row in rows)
        return [hook for hook in self._hooks if is_about(hook, write)]

    def watches(self, write: Write) -> bool:
        """Whether a webhook's rules name a write."""
        return bool(self.named(write))

    def labels(self, write: Write) -> Object | None:
        """The labels that namespace selectors look at; none for what is in no namespace."""
        if is_core(write.kind, "namespaces"):
            found: Object = (write.obj or write.old)["metadata"].get("labels") or {}
            return found
        if not write.kind.namespaced:
            return None
        row = self.store.get(ObjectKey("", "namespaces", "", write.key.namespace))
        return (orjson.loads(row.value)["metadata"].get("labels") or {}) if row else {}

    async def ask(self, hook: Hook, write: Write) -> Verdict | None:
        """A webhook's verdict; none when it cannot be asked and need not be.

        Raises:
            Denied: it refuses.
            BadRequest: it may not be asked in a dry run.
            ApiError: it cannot be asked.
        """
        if write.options.dry_run and hook.has_side_effects:
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        uid = new_uid()
        try:
            version = review.version_for(hook)
            body = await self.caller.post(hook, review.request(write, uid, version))
            verdict = review.verdict(body, uid, version, mutating=self.resource == MUTATING)
        except review.CallFailed as error:
            self.failed(hook, str(error))
            return None
        for text in verdict.warnings:
            write.warn(text)
        if not verdict.allowed:
            raise review.refusal(hook, verdict.status)
        return verdict

    def failed(self, hook: Hook, why: str) -> None:
        """Goes on without a webhook, or not.

        Raises:
            ApiError: it must be asked.
        """
        text = f'failed calling webhook "{hook.name}": {why}'
        if not hook.may_fail:
            raise _internal(text)
        now = time.monotonic()
        if now >= self._silent.get(hook.key, 0.0):
            self._silent[hook.key] = now + SILENT_SECONDS
            _log.warning("a write goes on without its webhook: %s", text)


class MutatingWebhook(_Webhooks):
    """Webhooks that change what is written."""

    resource = MUTATING

    async def admit(self, write: Write) -> None:
        """Asks one after the other, each with what those before it made of the object."""
        hooks = self.named(write)
        if not hooks:
            return
        rounds = write.rounds = write.rounds or Rounds()
        if rounds.again and orjson.dumps(write.obj) != rounds.left:
            rounds.due |= rounds.met
        for hook in hooks:
            if rounds.again and hook.key not in rounds.due:
                continue
            if not selects(hook, write, self.labels(write)):
                continue
            verdict = await self.ask(hook, write)
            if verdict is not None and verdict.patch and self._change(hook, write, verdict.patch):
                rounds.changed = True
                rounds.due |= rounds.met
            if hook.is_reinvoked:
                rounds.met.add(hook.key)
        rounds.left = orjson.dumps(write.obj)

    def _change(self, hook: Hook, write: Write, data: bytes) -> bool:
        """Applies a patch; whether it made a difference."""
        try:
            patch = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            why = f"received undecodable patch in webhook response: {error}"
            self.failed(hook, why)
            return False
        if not patch:
            return False
        if write.operation == DELETE:
            raise _internal(
                f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for this '
                "operation"
            )
        try:
            new = changed(write, patch)
        except (BadRequest, Invalid) as error:
            raise _internal(error.message) from error
        if new == write.obj:
            return False
        write.obj.clear()
        write.obj.update(new)
        return True


class ValidatingWebhook(_Webhooks):
    """Webhooks that judge what is written."""

    resource = VALIDATING

    async def validate(self, write: Write) -> None:
        """Asks all at once; the first refusal in their order counts."""
        hooks = self.named(write)
        if not hooks:
            return
        labels = self.labels(write)
        asked = [self.ask(hook, write) for hook in hooks if selects(hook, write, labels)]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


def changed(write: Write, patch: Any) -> Object:
    """What a webhook's patch makes of the object of a write: decoded, defaulted, and with what clients may not touch kept.

    Raises:
        BadRequest: it cannot be applied, or makes no object of that kind.
        Invalid: it makes another object.
    """
    kind, old = write.kind, orjson.loads(orjson.dumps(write.obj))
    if write.subresource == "scale":
        scale = patches.apply(review.shown(write, old) or {}, patch, patches.JSON_PATCH, None)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if type(replicas) is not int:
            raise BadRequest(f"spec.replicas: wanted a number, got: {replicas!r}")
        return {**old, "spec": {**(old.get("spec") or {}), "replicas": replicas}}
    new: Object = patches.apply(orjson.loads(orjson.dumps(old)), patch, patches.JSON_PATCH, None)
    if type(new) is not dict or type(new.get("metadata")) is not dict:
        raise BadRequest("metadata: wanted an object")
    bodies.decode(kind, new, bodies.WriteOptions())
    bodies.check_identity(kind, write.key, new)
    if write.subresource in ("ephemeralcontainers", "resize"):
        new = strategies.narrow(write.subresource, new, write.old)
    elif write.subresource == "status":
        new = {**old, "status": new.get("status") or {}}
    elif write.subresource:
        raise BadRequest(f"webhooks do not change {kind.resource}/{write.subresource}")
    elif write.operation == UPDATE:
        strategies.prepare_update(kind, new, write.old)
    else:
        _keep(kind, new, write.obj)
    defaults.apply(kind.group, kind.resource, new)
    return new


def _keep(kind: Kind, new: Object, before: Object) -> None:
    for field in _OWNED:
        if field in before["metadata"]:
            new["metadata"][field] = before["metadata"][field]
    if kind.has_status:
        new.pop("status", None)
        if "status" in before:
            new["status"] = before["status"]


def _internal(text: str) -> ApiError:
    return ApiError(f"Internal error occurred: {text}", {"causes": [{"message": text}]})
