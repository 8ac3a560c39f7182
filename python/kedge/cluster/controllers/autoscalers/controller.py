# SPDX-License-Identifier: Apache-2.0
"""Looks at each autoscaler every 15 seconds, and writes what was found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import events
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.controllers.autoscalers.look import Looks
    from kedge.cluster.controllers.autoscalers.metrics import Ask
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Named

Object = dict[str, Any]

GROUP = "autoscaling"
RESOURCE = "horizontalpodautoscalers"
PERIOD_SECONDS = 15.0


class Autoscalers:
    """The HorizontalPodAutoscaler controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
        ask: gets metrics from the API server.
        period_seconds: how often each autoscaler is looked at.
    """

    def __init__(
        self,
        client: Client,
        informer: Informer,
        recorder: events.Recorder,
        ask: Ask,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._ask = ask
        self._period = period_seconds
        self._looks: Looks | None = None
        self._work: Reconciler[Key] = Reconciler(
            "autoscalers", self._reconcile, informer, workers=2
        )
        informer.autoscalers.watch(self._changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _changed(self, old: Named | None, new: Named | None) -> None:
        """Changes wait for the next look: the own status is one of them."""
        if old is None and new is not None:
            self._work.add(new.key)
        elif old is not None and new is None and self._looks is not None:
            self._looks.forget(old.key)

    def _looker(self) -> Looks:
        if self._looks is None:
            from kedge.cluster.controllers.autoscalers.look import Looks  # noqa: PLC0415 - only where there is one

            self._looks = Looks(self._client, self._informer, self._ask)
        return self._looks

    async def _reconcile(self, key: Key) -> float | None:
        from kedge.cluster.controllers.autoscalers.status import Draft  # noqa: PLC0415 - as above

        where = ObjectKey(GROUP, RESOURCE, *key)
        stored = self._client.get(where)
        if stored is None:
            return None
        draft = Draft.of(stored, time.time())
        status = await self._looker().look(key, stored, draft)
        uid = stored["metadata"]["uid"]
        about = events.Reference("HorizontalPodAutoscaler", "autoscaling/v2", *key, uid)
        for told in draft.told:
            self._recorder.record(about, *told)
        patch = changed_fields(draft.before, status)
        if patch:
            await self._client.patch_status(where, patch, uid=uid)
        return self._period
