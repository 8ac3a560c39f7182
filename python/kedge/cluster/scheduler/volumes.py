# SPDX-License-Identifier: Apache-2.0
"""Where a pod's claims let it run, and binding them to what was chosen before the pod is bound.

A claim whose class waits for its first consumer is bound here: to a volume that is there already and that
the node can reach (``claimRef`` is written), or, by naming the node in an annotation, to one that its
provisioner then makes. The pod is bound once all its claims are.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import binding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Node, Pod
    from kedge.cluster.machinery.storage import Claim, Volume

SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_SECONDS = 600.0
IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
AFFINITY = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
NO_ROOM = "node(s) did not have enough free storage"
GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
ONE_POD = (
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
)


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a claim is about to get."""

    node: str
    volume: str
    """Empty when it is to be made."""
    size: int


class PodVolumes:
    """The claims of one pod against the nodes, at one moment.

    Attributes:
        blocked: why no node will do, whatever it is.
        short: claims that some node had no room for.
    """

    def __init__(self, pod: Pod, storage: Storage) -> None:
        self.blocked = ""
        self.short: list[Claim] = []
        self._storage = storage
        self._bound: list[Volume | None] = []
        self._wanted: list[Claim] = []
        for name in pod.claims:
            self.blocked = self.blocked or self._add(pod, name)
        self._wanted.sort(key=lambda one: one.size)
        volumes = storage.volumes() if self._wanted else ()
        # what is the same for every node is looked up once
        self._candidates = [binding.candidates(one, volumes) for one in self._wanted]
        self._given = binding.given(volumes)

    def _add(self, pod: Pod, name: str) -> str:  # noqa: PLR0911 - a return per obstacle
        claim = self._storage.claim(pod, name)
        is_own = name in _ephemeral(pod)
        if claim is None:
            if is_own:
                return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            return f'persistentvolumeclaim "{name}" not found'
        if is_own and (claim.owner is None or claim.owner.uid != pod.uid):
            return f'PVC "{name}" was not created for pod "{pod.name}" (pod is not owner)'
        if claim.deleted:
            return f'persistentvolumeclaim "{name}" is being deleted'
        if claim.phase == "Lost":
            return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim.volume_name}"'
        if binding.ONE_POD in claim.modes and self._storage.is_used(claim, pod):
            return ONE_POD
        if claim.volume_name:
            if not claim.is_ready:
                return IMMEDIATE
            self._bound.append(self._storage.volume(claim.volume_name))
            return ""
        if not self._storage.is_delayed(claim):
            return IMMEDIATE
        self._wanted.append(claim)
        return ""

    def reasons(self, node: Node) -> Sequence[str]:
        """Why the pod's volumes cannot be had on a node."""
        for volume in self._bound:
            if volume is None:
                return (GONE,)
            if not binding.reachable(volume, node):
                return (AFFINITY,)
        return self._choose(node)[1]

    def choices(self, node: Node) -> dict[Key, tuple[Claim, str]]:
        """By claim: the volume that it gets on this node; empty when one is to be made there."""
        return self._choose(node)[0]

    def _choose(self, node: Node) -> tuple[dict[Key, tuple[Claim, str]], Sequence[str]]:
        chosen: dict[Key, tuple[Claim, str]] = {}
        taken = self._storage.taken()
        more = 0
        for claim, candidates in zip(self._wanted, self._candidates, strict=True):
            volume = next(
                (
                    one
                    for one in candidates
                    if one.name not in taken and binding.reachable(one, node)
                ),
                None,
            )
            if volume is not None:
                taken.add(volume.name)
                chosen[claim.key] = (claim, volume.name)
                continue
            if claim.selected_node and claim.selected_node != node.name:
                return {}, (NO_VOLUME,)
            provisioner = self._storage.provisioner(claim)
            if provisioner in ("", binding.NO_PROVISIONER):
                return {}, (NO_VOLUME,)
            if provisioner == binding.LOCAL_PATH:
                more += claim.size
                given = self._given.get(binding.hostname(node), 0)
                promised = self._storage.promised(node, {one.key for one in self._wanted})
                if more > binding.room(node, given, promised):
                    self.short.append(claim)
                    return {}, (NO_ROOM,)
            chosen[claim.key] = (claim, "")
        return chosen, ()


def _ephemeral(pod: Pod) -> list[str]:
    """The claims that are made for the pod."""
    volumes = (pod.pending.volumes if pod.pending is not None else None) or ()
    return [f"{pod.name}-{one.name}" for one in volumes if one.ephemeral is not None]


class Storage:
    """What the scheduler knows of claims and volumes, with what it has promised and is not seen yet.

    Args:
        client: writes choices.
        informer: reads.
    """

    def __init__(self, client: Client, informer: Informer) -> None:
        self._client = client
        self._informer = informer
        self._promised: dict[Key, _Promise] = {}
        self._changed = asyncio.Event()
        informer.claims.watch(self._claim_changed)

    def needs(self, pod: Pod) -> PodVolumes | None:
        """The pod's claims; none when it has none."""
        return PodVolumes(pod, self) if pod.claims else None

    def claim(self, pod: Pod, name: str) -> Claim | None:
        """A pod's claim."""
        return self._informer.claims.get(pod.namespace, name)

    def volume(self, name: str) -> Volume | None:
        """A PersistentVolume."""
        return self._informer.volumes.get("", name)

    def volumes(self) -> Sequence[Volume]:
        """All of them."""
        return list(self._informer.volumes)

    def is_used(self, claim: Claim, pod: Pod) -> bool:
        """Whether another pod on a node uses a claim."""
        users = self._informer.pods.using(claim.key)
        return any(one.uid != pod.uid and one.node and not one.finished for one in users)

    def is_delayed(self, claim: Claim) -> bool:
        """Whether its class waits for a consumer."""
        found = binding.class_of(claim, self._informer.classes)
        return found is not None and found.is_delayed

    def provisioner(self, claim: Claim) -> str:
        """Who makes its volume."""
        found = binding.class_of(claim, self._informer.classes)
        return found.provisioner if found is not None else ""

    def taken(self) -> set[str]:
        """Volumes promised to claims that do not show it yet."""
        return {one.volume for one in self._promised.values() if one.volume}

    def promised(self, node: Node, but: set[Key]) -> int:
        """Bytes of volumes to be made on a node for other claims, which are not seen yet."""
        return sum(
            one.size
            for key, one in self._promised.items()
            if one.node == node.name and not one.volume and key not in but
        )

    def promise(self, needs: PodVolumes, node: str) -> dict[Key, str]:
        """Keeps what a pod's claims get on a node from others, until they show it; by claim, the volumes."""
        found = self._informer.nodes.get("", node)
        choices = needs.choices(found) if found is not None else {}
        for key, (claim, volume) in choices.items():
            self._promised[key] = _Promise(node, volume, claim.size)
        return {key: volume for key, (_, volume) in choices.items()}

    async def bind(self, pod: Pod, node: str, choices: dict[Key, str]) -> bool:
        """Writes the choices and waits until all claims of a pod are bound; whether they are.

        Args:
            pod: whose claims.
            node: where it is to run.
            choices: of ``promise``.

        Raises:
            KedgeError: a choice cannot be written.
        """
        try:
            for key, volume in choices.items():
                await self._write(key, node, volume)
            async with asyncio.timeout(BIND_SECONDS):
                while not self._all_bound(pod):
                    if self._is_rejected(pod, choices, node):
                        return False
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        finally:
            for key in choices:
                self._promised.pop(key, None)
        return True

    async def _write(self, key: Key, node: str, volume: str) -> None:
        claim = self._informer.claims.get(*key)
        if claim is None:
            return
        if not volume:
            patch = {"metadata": {"uid": claim.uid, "annotations": {SELECTED_NODE: node}}}
            await self._client.patch(ObjectKey("", "persistentvolumeclaims", *key), patch)
            return
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.uid,
        }
        notes = {"pv.kubernetes.io/bound-by-controller": "yes"}
        found = self._informer.volumes.get("", volume)
        version = {"resourceVersion": str(found.version)} if found is not None else {}
        await self._client.patch(
            ObjectKey("", "persistentvolumes", "", volume),
            {"metadata": {"annotations": notes, **version}, "spec": {"claimRef": reference}},
        )

    def _all_bound(self, pod: Pod) -> bool:
        claims = (self.claim(pod, name) for name in pod.claims)
        return all(one is not None and one.is_ready for one in claims)

    def _is_rejected(self, pod: Pod, choices: dict[Key, str], node: str) -> bool:
        """Whether a claim is gone, or its provisioner took the node's name out again."""
        if self._informer.pods.get(*pod.key) is None:
            return True
        for key, volume in choices.items():
            claim = self._informer.claims.get(*key)
            if claim is None or claim.deleted:
                return True
            if not volume and not claim.is_bound and claim.selected_node != node:
                # not seen yet is not taken out: our own write moves the caches first
                stored = self._client.get(ObjectKey("", "persistentvolumeclaims", *key)) or {}
                notes = (stored.get("metadata") or {}).get("annotations") or {}
                if notes.get(SELECTED_NODE) != node:
                    return True
        return False

    def _claim_changed(self, _old: Claim | None, _new: Claim | None) -> None:
        self._changed.set()
