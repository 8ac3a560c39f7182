# SPDX-License-Identifier: Apache-2.0
"""Keeps the EndpointSlices and Endpoints of Services equal to their pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.endpoints import hints, slices, subsets
from kedge.cluster.controllers.endpoints.hints import ZONE
from kedge.cluster.controllers.endpoints.triggers import Triggers
from kedge.cluster.machinery import events, services
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Node, Pod
    from kedge.cluster.machinery.services import Endpoints, Service, Slice

Object = dict[str, Any]

LARGE = 100
"""From so many pods on, a Service's changes are gathered for a moment."""
GATHER_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""When to look again for a node that a pod is on and that is not there."""


class EndpointsController:
    """The EndpointSlice and Endpoints controllers.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: events.Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._divided: set[Key] = set()
        self._dividing: set[Key] = set()
        self._triggers = Triggers()
        self._large: set[Key] = set()
        self._work: Reconciler[Key] = Reconciler("endpoints", self._reconcile, informer)
        informer.services.watch(self._service_changed)
        informer.pods.watch(self._pod_changed)
        informer.nodes.watch(self._node_changed)
        informer.slices.watch(self._slice_changed)
        informer.endpoints.watch(self._endpoints_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._informer.synced()
        for one in self._informer.endpoints:
            if not one.leader:
                self._work.add(one.key)
        await self._work.run()

    # --- what is due

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        one = new or old
        if one is not None:
            self._work.add(one.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _looks_same(old, new):
            return
        for pod in (old, new):
            if pod is not None and (pod is new or new is None or pod.labels is not new.labels):
                self._offer(pod)

    def _offer(self, pod: Pod) -> None:
        for service in self._informer.services.selecting(pod.namespace, pod.labels):
            if service.key in self._large:
                self._work.add_after(service.key, GATHER_SECONDS)
            else:
                self._work.add(service.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if _share(old) != _share(new):
            for key in self._dividing:
                self._work.add_after(key, GATHER_SECONDS)
        if new is None or (old is not None and old.labels.get(ZONE) == new.labels.get(ZONE)):
            return
        for pod in self._informer.pods.on_node(new.name):
            self._offer(pod)

    def _slice_changed(self, old: Slice | None, new: Slice | None) -> None:
        for one in (old, new):
            if one is not None and one.service and one.manager == slices.MANAGER:
                self._work.add((one.namespace, one.service))

    def _endpoints_changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        if new is None and old is not None:
            self._work.add(old.key)

    # --- work

    async def _reconcile(self, key: Key) -> float | None:
        record = self._informer.services.get(*key)
        if record is None:
            self._forget(key)
            await self._client.delete(ObjectKey("", "endpoints", *key))
            return None
        if record.selector is None or record.external:
            self._forget(key)
            return None
        service = self._client.get(ObjectKey("", "services", *key))
        if service is None:
            return None
        found = self._informer.pods.within(key[0])
        pods = sorted(
            (pod for pod in found if record.selects(pod.labels)), key=lambda pod: pod.name
        )
        self._note_size(key, pods)
        trigger = self._triggers.look(record, pods)
        try:
            await self._write_slices(service, pods, trigger)
            await self._write_endpoints(service, pods, trigger)
        except Forbidden as error:
            if not _is_terminating(error):
                raise
        missing = any(pod.node and self._zone(pod.node) is None for pod in pods)
        return RETRY_SECONDS if missing else None

    def _forget(self, key: Key) -> None:
        self._triggers.forget(key)
        self._large.discard(key)
        self._divided.discard(key)
        self._dividing.discard(key)

    def _tell(self, service: Object, undivided: str) -> None:
        """Says when endpoints begin or cease to be divided among zones."""
        metadata = service["metadata"]
        key = (metadata["namespace"], metadata["name"])
        is_wanted, was_divided = hints.is_automatic(service), key in self._divided
        if is_wanted:
            self._dividing.add(key)
        else:
            self._dividing.discard(key)
        if is_wanted and not undivided:
            self._divided.add(key)
        else:
            self._divided.discard(key)
        about = events.Reference("Service", "v1", *key, metadata["uid"])
        family = f"addressType: {services.families(service)[0]}"
        if undivided:
            self._recorder.record(about, events.WARNING, "TopologyAwareHintsDisabled", undivided)
        elif is_wanted and not was_divided:
            text = f"{hints.ENABLED}, {family}"
            self._recorder.record(about, events.NORMAL, "TopologyAwareHintsEnabled", text)
        elif was_divided and not is_wanted:
            text = f"{hints.DISABLED}, {family}"
            self._recorder.record(about, events.WARNING, "TopologyAwareHintsDisabled", text)

    def _note_size(self, key: Key, pods: Sequence[Pod]) -> None:
        if len(pods) >= LARGE:
            self._large.add(key)
        else:
            self._large.discard(key)

    def _zone(self, name: str) -> str | None:
        node = self._informer.nodes.get("", name)
        return node.labels.get(ZONE, "") if node is not None else None

    async def _write_slices(self, service: Object, pods: Sequence[Pod], trigger: str) -> None:
        ratios = None
        if hints.is_automatic(service):
            ratios = hints.ratios_of(self._informer.nodes)
        changes = slices.plan(service, pods, self._zone, self._existing(service), ratios)
        self._tell(service, changes.undivided)
        namespace = service["metadata"]["namespace"]
        for one in changes.create:
            _stamp(one, trigger)
            await self._client.create(_slice_key(namespace, ""), one)
        for one in changes.update:
            _stamp(one, trigger)
            await self._client.update(_slice_key(namespace, one["metadata"]["name"]), one)
        for one in changes.delete:
            metadata = one["metadata"]
            await self._client.delete(_slice_key(namespace, metadata["name"]), uid=metadata["uid"])

    def _existing(self, service: Object) -> list[Object]:
        metadata = service["metadata"]
        held = self._informer.slices.of_service(metadata["namespace"], metadata["name"])
        names = sorted(one.name for one in held if one.manager == slices.MANAGER)
        found = (self._client.get(_slice_key(metadata["namespace"], name)) for name in names)
        return [one for one in found if one is not None]

    async def _write_endpoints(self, service: Object, pods: Sequence[Pod], trigger: str) -> None:
        metadata = service["metadata"]
        key = ObjectKey("", "endpoints", metadata["namespace"], metadata["name"])
        old = self._client.get(key)
        body = subsets.wanted(service, pods, old, trigger)
        if body is None:
            return
        if old is None:
            await self._client.create(key, body)
        else:
            await self._client.update(key, body)


def _looks_same(old: Pod, new: Pod) -> bool:
    """Whether nothing that endpoints show has changed."""
    return (
        old.labels is new.labels
        and old.addresses == new.addresses
        and old.ready == new.ready
        and old.deleted == new.deleted
        and old.finished == new.finished
        and old.node == new.node
    )


def _share(node: Node | None) -> tuple[str, int, bool]:
    """What a node adds to the share of its zone."""
    if node is None:
        return ("", 0, False)
    return (node.labels.get(ZONE, ""), node.allocatable.get("cpu", 0), node.ready == "True")


def _stamp(one: Object, trigger: str) -> None:
    metadata = one["metadata"]
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop(services.TRIGGER_TIME, None)
    if trigger:
        annotations[services.TRIGGER_TIME] = trigger
    one["metadata"] = {**metadata, "annotations": annotations}


def _slice_key(namespace: str, name: str) -> ObjectKey:
    return ObjectKey(services.GROUP, services.SLICES, namespace, name)


def _is_terminating(error: Forbidden) -> bool:
    causes = (error.details or {}).get("causes") or ()
    return any(one["reason"] == "NamespaceTerminating" for one in causes)  # type: ignore[attr-defined]
