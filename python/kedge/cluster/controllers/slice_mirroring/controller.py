# SPDX-License-Identifier: Apache-2.0
"""Keeps slices equal to the Endpoints of Services that select no pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.slice_mirroring.plan import MANAGER, MAX_ENDPOINTS, Mirror, plan
from kedge.cluster.machinery import events, services
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key
    from kedge.cluster.machinery.services import Endpoints, Service, Slice

Object = dict[str, Any]


class SliceMirroring:
    """The EndpointSlice mirroring controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: events.Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._work: Reconciler[Key] = Reconciler(
            "slice mirroring", self._reconcile, informer, workers=1
        )
        informer.endpoints.watch(self._endpoints_changed)
        informer.services.watch(self._service_changed)
        informer.slices.watch(self._slice_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _endpoints_changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        one = new or old
        if one is not None and any(each is not None and each.mirrored for each in (old, new)):
            self._work.add(one.key)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        one = new or old
        if one is None:
            return
        had = old is not None and old.selector is not None
        has = new is not None and new.selector is not None
        if had != has or (not has and (old is None or new is None)):
            self._work.add(one.key)

    def _slice_changed(self, old: Slice | None, new: Slice | None) -> None:
        for one in (old, new):
            if one is not None and one.service and one.manager == MANAGER:
                self._work.add((one.namespace, one.service))

    async def _reconcile(self, key: Key) -> None:
        existing = self._existing(key)
        record = self._informer.endpoints.get(*key)
        service = self._informer.services.get(*key)
        stored = self._client.get(ObjectKey("", "endpoints", *key))
        wanted = record is not None and record.mirrored and stored is not None
        if not wanted or stored is None or service is None or service.selector is not None:
            await self._write(key[0], Mirror(delete=existing))
            return
        mirror = plan(stored, existing)
        self._tell(stored, mirror)
        await self._write(key[0], mirror)

    def _existing(self, key: Key) -> list[Object]:
        held = self._informer.slices.of_service(*key)
        names = sorted(one.name for one in held if one.manager == MANAGER)
        found = (self._client.get(_slice_key(key[0], name)) for name in names)
        return [one for one in found if one is not None]

    def _tell(self, endpoints: Object, mirror: Mirror) -> None:
        metadata = endpoints["metadata"]
        about = events.Reference(
            "Endpoints", "v1", metadata["namespace"], metadata["name"], metadata["uid"]
        )
        if mirror.invalid:
            text = f"Skipped {mirror.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self._recorder.record(about, events.WARNING, "InvalidIPAddress", text)
        if mirror.skipped > mirror.invalid:
            text = (
                f"A max of {MAX_ENDPOINTS} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{mirror.skipped} addresses were skipped"
            )
            self._recorder.record(about, events.WARNING, "TooManyAddressesToMirror", text)

    async def _write(self, namespace: str, mirror: Mirror) -> None:
        for one in mirror.create:
            await self._client.create(_slice_key(namespace, ""), one)
        for one in mirror.update:
            await self._client.update(_slice_key(namespace, one["metadata"]["name"]), one)
        for one in mirror.delete:
            metadata = one["metadata"]
            await self._client.delete(_slice_key(namespace, metadata["name"]), uid=metadata["uid"])


def _slice_key(namespace: str, name: str) -> ObjectKey:
    return ObjectKey(services.GROUP, services.SLICES, namespace, name)
