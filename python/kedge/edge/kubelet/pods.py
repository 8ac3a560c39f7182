# SPDX-License-Identifier: Apache-2.0
"""All pods of the node: a worker for each, fed by the store's watch and by what the runtime has.

At start, what the runtime already runs is handed to the workers as it is: nothing healthy is
touched. A sandbox of ours whose pod is not in the store is ended only once the store is known to
be complete; a store that had to be refilled may simply not have its pod yet.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.api.static_pods import mirrored
from kedge.edge.kubelet import labels, objects, reports
from kedge.edge.kubelet.container import tokens
from kedge.edge.kubelet.inventory import Containers, Inventory, Sandboxes
from kedge.edge.kubelet.pod.state import Container, ContainerState, Ended, Pod, Sandbox
from kedge.edge.kubelet.relisting import Relisting
from kedge.edge.kubelet.remains import Remains
from kedge.edge.kubelet.worker import PodWorker
from kedge.errors import Gone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kedge.edge.kubelet.static_pods.mirrors import Mirrors
    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.runtime import SandboxInfo
    from kedge.store import Event, Store

_WATCHED = [
    ("", "pods"),
    ("", "configmaps"),
    ("", "secrets"),
    objects.TOKENS,
    objects.NODE_TOKENS,
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "nodes"),
    ("certificates.k8s.io", "clustertrustbundles"),
    objects.RUNTIME_CLASSES,
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "volumeattachments"),
]

STATIC = "static"
"""The resource in the keys of static pods: a pod of the API may have the same name."""

_log = logging.getLogger(__name__)


class Pods:
    """Runs a worker per pod UID.

    Args:
        store: the node's replica.
        tools: the kubelet's shared parts.

    While there is ``held``, new pods wait with it.
    """

    def __init__(self, store: Store, tools: Tools) -> None:
        self._store = store
        self._tools = tools
        self._is_complete = False
        self._workers: dict[str, PodWorker] = {}
        self._keys: dict[ObjectKey, str] = {}
        self._references: dict[str, frozenset[ObjectKey]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._unclaimed: dict[str, tuple[dict[str, Sandbox], dict[str, Container]]] = {}
        self._inventory = Inventory(tools.runtime, tools.facts.node)
        self._relisting = Relisting(tools, self._inventory, self._workers, self._compared)
        self._remains = Remains(tools.paths, tools.cgroups, tools.volumes)
        self._is_adopted = False
        self._static: dict[ObjectKey, Pod] = {}
        self._static_known: asyncio.Event | None = None
        self._mirrors: Mirrors | None = None
        self.held: Ended | None = None

    @property
    def runtime_error(self) -> str:
        """Why the runtime does not answer; empty while it does."""
        return self._relisting.error

    @property
    def is_adopted(self) -> bool:
        """Whether every pod of the store has its worker."""
        return self._is_adopted

    @property
    def is_complete(self) -> bool:
        """Whether these are all pods that the node has."""
        return self._is_adopted and self._may_end_orphans()

    def others(self, uid: str) -> list[Pod]:
        """The pods that run here beside this one, each with what it was given."""
        return [
            one.pod for one in self._workers.values() if one.uid != uid and not one.is_wound_down()
        ]

    def room(self) -> None:
        """A pod has gone or shrunk: who waits to grow is asked again."""
        for one in self._workers.values():
            if one.resizing is not None:
                one.resizing.retry()

    def workers(self) -> list[PodWorker]:
        """Every worker, in no order."""
        return list(self._workers.values())

    def logs(self) -> Iterator[tuple[str, str]]:
        """Ids and log files of the containers that run."""
        for worker in self._workers.values():
            for one in worker.containers.values():
                if one.state is ContainerState.RUNNING and one.log_path:
                    yield one.id, one.log_path

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod that the store has."""
        for resource in ("pods", STATIC):
            uid = self._keys.get(ObjectKey("", resource, namespace, name))
            if uid in self._workers:
                return self._workers[uid]
        return None

    def store_is_complete(self) -> None:
        """The store has all of the node's objects: what it does not have is to go."""
        if not self._is_complete:
            self._is_complete = True
            if self._is_adopted:
                self._relisting.soon()

    def await_static(self) -> None:
        """Static pods are to come (``set_static``): before that nothing is taken for an orphan."""
        self._static_known = asyncio.Event()

    def set_static(self, pods: dict[ObjectKey, Pod]) -> None:
        """All static pods of the node; those that it had and are not among them end."""
        self._static = pods
        for key in [key for key in self._keys if key.resource == STATIC and key not in pods]:
            self._vanished(key)
        if self._static_known is not None:
            self._static_known.set()
        self._load_mirrors().set_static(pods)
        if self._is_adopted:
            self._start_static()
            self._relisting.soon()

    def _start_static(self) -> None:
        """Starts static pods; one whose file changed when the one before it has ended."""
        for key, pod in self._static.items():
            uid, before = pod["metadata"]["uid"], self._keys.get(key)
            if before is not None and before != uid:
                self._vanished(key)
            if before != uid and not self._has_worker(key):
                self._desired(key, pod)

    def _has_worker(self, key: ObjectKey) -> bool:
        """Whether a static pod of that name has not ended yet."""
        name, other = (key.namespace, key.name), self._keys.get(key._replace(resource="pods"))
        return any(
            (one.pod["metadata"]["namespace"], one.pod["metadata"]["name"]) == name
            for one in self._workers.values()
            if one.uid != other
        )

    def _load_mirrors(self) -> Mirrors:
        if self._mirrors is None:
            # Few nodes have static pods: the others do not load this.
            from kedge.edge.kubelet.static_pods.mirrors import Mirrors  # noqa: PLC0415

            self._mirrors = Mirrors(
                self._tools.reporter,
                self._tools.recorder,
                is_running=self._has_worker,
                is_known=self._knows_static,
                clock=self._tools.clock,
            )
        return self._mirrors

    def _may_end_orphans(self) -> bool:
        return self._is_complete and self._knows_static()

    def _knows_static(self) -> bool:
        return self._static_known is None or self._static_known.is_set()

    async def run(self) -> None:
        """Runs pods until cancelled; containers go on without it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            watch = self._store.watch(_WATCHED)
            await self._adopt()
            group.create_task(self._follow_store(watch))
            group.create_task(self._relisting.run())

    async def _adopt(self) -> None:
        """Begins with what the runtime has and the store wants."""
        sandboxes, containers = await self._relisting.first()
        self._unclaimed = {uid: (mine, containers.get(uid, {})) for uid, mine in sandboxes.items()}
        self._start_static()
        found = [(item.key, json.loads(item.value)) for item in self._store.list("", "pods").items]
        for key, pod in sorted(found, key=self._turn):
            self._stored(key, pod)
        self._is_adopted = True
        if self._may_end_orphans():
            self._end_orphans(sandboxes, containers)

    def _turn(self, item: tuple[ObjectKey, Pod]) -> int:
        """Who runs comes first, then who ran: what they hold of the node is not given to others."""
        metadata = item[1]["metadata"]
        if metadata["uid"] in self._unclaimed:
            return 0
        known = self._tools.reporter.known(metadata["namespace"], metadata["name"], metadata["uid"])
        return 1 if known and known.get("phase") == "Running" else 2

    # the store

    async def _follow_store(self, watch: Any) -> None:
        while True:
            try:
                async for batch in watch:
                    for event in batch:
                        self._apply(event)
            except Gone:
                _log.warning("the store's watch fell behind: listing again")
            watch.close()
            watch = self._store.watch(_WATCHED)
            self._relist_store()

    def _relist_store(self) -> None:
        present = set()
        for item in self._store.list("", "pods").items:
            present.add(item.key)
            self._stored(item.key, json.loads(item.value))
        known = {key for key in self._keys if key.resource != STATIC}
        known |= set() if self._mirrors is None else self._mirrors.keys()
        for key in known - present:
            self._unstored(key)
        for worker in self._workers.values():
            worker.objects_changed()

    def _apply(self, event: Event) -> None:
        if event.key.resource == "pods":
            if event.type == "DELETE":
                self._unstored(event.key)
            else:
                self._stored(event.key, json.loads(event.value))
            return
        if (event.key.group, event.key.resource) in (objects.TOKENS, objects.NODE_TOKENS):
            self._token_changed(event)
            return
        any_of = objects.any_of(event.key)
        for uid, references in self._references.items():
            if (event.key in references or any_of in references) and uid in self._workers:
                self._workers[uid].objects_changed()

    def _token_changed(self, event: Event) -> None:
        value = event.value or event.previous
        if value is None or (event.type == "DELETE" and event.key.resource != "nodetokens"):
            return
        uid: str = (json.loads(value).get("spec") or {}).get("podUID", "")
        worker = self._workers.get(uid)
        if worker is not None and tokens.may_use_tokens(worker.pod):
            worker.objects_changed()

    def _stored(self, key: ObjectKey, pod: Pod) -> None:
        """The store has a pod: to be run, or the mirror of a static one."""
        if mirrored(pod):
            self._load_mirrors().seen(key, pod)
        else:
            self._desired(key, pod)

    def _unstored(self, key: ObjectKey) -> None:
        if self._mirrors is not None:
            self._mirrors.gone(key)
        self._vanished(key)

    def _desired(self, key: ObjectKey, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        before = self._keys.get(key)
        if before is not None and before != uid:
            self._vanished(key)
        self._keys[key] = uid
        self._references[uid] = objects.references(pod)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            return
        sandboxes, containers = self._unclaimed.pop(uid, ({}, {}))
        worker = PodWorker(pod, self._tools, sandboxes, containers)
        if self.held is not None:
            worker.end(self.held)
        self._start(worker)

    def _vanished(self, key: ObjectKey) -> None:
        uid = self._keys.pop(key, None)
        worker = self._workers.get(uid or "")
        if worker is not None:
            worker.gone()

    def _start(self, worker: PodWorker) -> None:
        if self._group is None:
            raise RuntimeError("the kubelet does not run")
        self._workers[worker.uid] = worker
        if self._tools.cgroups is not None:
            self._tools.cgroups.note(worker.pod)
        self._group.create_task(self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        await worker.run()
        metadata = worker.pod["metadata"]
        self._tools.reporter.forget(metadata["namespace"], metadata["name"], worker.uid)
        self._workers.pop(worker.uid, None)
        self._references.pop(worker.uid, None)
        self.room()
        if self._mirrors is not None:
            self._start_static()
            self._mirrors.look(ObjectKey("", STATIC, metadata["namespace"], metadata["name"]))

    async def _compared(self, sandboxes: list[SandboxInfo]) -> None:
        """The workers know what the runtime has."""
        if self._may_end_orphans():
            await self._find_orphans(sandboxes)
        if self._mirrors is not None:
            self._mirrors.look_again()

    # orphans

    async def _find_orphans(self, listed: Iterable[SandboxInfo]) -> None:
        """Ends what belongs to no pod; a worker that ends while this looks leaves no orphan."""
        suspects = {one.labels[labels.POD_UID] for one in listed} - self._workers.keys()
        if not suspects and not self._remains.of_others(self._workers):
            return
        sandboxes, containers = await self._inventory.take()
        found = {uid: mine for uid, mine in sandboxes.items() if uid in suspects}
        self._end_orphans(found, containers)

    def _end_orphans(self, sandboxes: Sandboxes, containers: Containers) -> None:
        """Ends pods that run here and are in the store no more; takes back their reports."""
        self._unclaimed.clear()
        for uid, mine in sandboxes.items():
            if uid not in self._workers:
                newest = max(mine.values(), key=lambda one: one.created_at)
                _log.info("removing an orphaned pod uid=%s sandbox=%s", uid, newest.id)
                found = containers.get(uid, {})
                self._start(
                    PodWorker(_orphan(uid, newest), self._tools, mine, found, was_gone=True)
                )
        if self._group is not None:
            for uid in self._remains.of_others(self._workers):
                self._group.create_task(self._remains.remove(uid))
        known = self._keys.keys() | (set() if self._mirrors is None else self._mirrors.keys())
        for key in self._tools.reporter.known_keys():
            resource = STATIC if key.resource == reports.STATIC else "pods"
            if key._replace(resource=resource) not in known:
                self._tools.reporter.forget_key(key)


def _orphan(uid: str, sandbox: Sandbox) -> Pod:
    """What is left to know of a pod whose object is gone."""
    metadata = {"name": sandbox.name, "namespace": sandbox.namespace, "uid": uid}
    spec: dict[str, Any] = {"containers": []}
    if sandbox.grace_seconds is not None:
        spec["terminationGracePeriodSeconds"] = sandbox.grace_seconds
    return {"metadata": metadata, "spec": spec}
