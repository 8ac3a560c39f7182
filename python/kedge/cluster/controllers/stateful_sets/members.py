# SPDX-License-Identifier: Apache-2.0
"""Creates, mends and deletes one pod of a StatefulSet, with its claims, and tells people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.stateful_sets import pods
from kedge.cluster.controllers.stateful_sets.claims import Holder, Owners
from kedge.cluster.controllers.stateful_sets.plan import Member
from kedge.cluster.machinery import events
from kedge.errors import AlreadyExists, Conflict, KedgeError

if TYPE_CHECKING:
    from kedge.cluster.controllers.stateful_sets.model import StatefulSet
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Pod, Workload
    from kedge.cluster.machinery.revisions import Revision
    from kedge.cluster.machinery.wire import Object

CLAIMS = ("", "persistentvolumeclaims")


@dataclass(frozen=True, slots=True)
class Whose:
    """A StatefulSet in the three forms that are needed."""

    record: Workload
    stored: Object
    model: StatefulSet


class Members:
    """Acts on the pods of a StatefulSet.

    Args:
        whose: the StatefulSet.
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(
        self, whose: Whose, client: Client, informer: Informer, recorder: Recorder
    ) -> None:
        self._whose = whose
        self._client = client
        self._informer = informer
        self._recorder = recorder

    # --- what is seen

    def member(self, pod: Pod, ordinal: int) -> Member:
        """A pod with what is to be known of it and its claims."""
        model = self._whose.model
        names = model.claim_names(ordinal)
        found = [self._informer.claims.get(pod.namespace, name) for name in names]
        owners = self._owners(ordinal, pod.uid)
        fits = pods.has_identity(model, ordinal, pod) and all(
            claim is None or owners.are_right(claim.owners) for claim in found
        )
        lacks = any(claim is None or claim.deleted for claim in found)
        return Member(ordinal, pod, fits, lacks)

    def is_stale(self, ordinal: int) -> bool:
        """Whether a claim of an ordinal goes with the pod that had it before."""
        model = self._whose.model
        if not model.retention.when_scaled:
            return False
        pod = Holder("v1", "Pod", model.pod_name(ordinal), "")
        found = (
            self._informer.claims.get(model.namespace, name) for name in model.claim_names(ordinal)
        )
        return any(claim is not None and pod.is_stale_in(claim.owners) for claim in found)

    # --- what is done

    async def create(self, ordinal: int, revision: Revision) -> None:
        """Makes a pod, and first what it lacks of claims."""
        record, stored = self._whose.record, self._whose.stored
        body = pods.pod_for(record, stored, revision, ordinal)
        name = body["metadata"]["name"]
        try:
            await self._provide(ordinal)
            key = ObjectKey("", "pods", record.namespace, name)
            created = await self._client.create(key, body)
            await self._own(ordinal, created["metadata"]["uid"])
        except AlreadyExists:
            raise
        except KedgeError as error:
            self._failed("create", name, error)
            raise
        self._done("create", name)

    async def delete(self, pod: Pod) -> None:
        """Deletes a pod."""
        try:
            await self._client.delete(ObjectKey("", "pods", *pod.key), uid=pod.uid)
        except KedgeError as error:
            self._failed("delete", pod.name, error)
            raise
        self._done("delete", pod.name)

    async def provide(self, pod: Pod) -> None:
        """Makes the claims that a pod waits for."""
        ordinal = self._ordinal(pod)
        await self._provide(ordinal)
        await self._own(ordinal, pod.uid)

    async def mend(self, pod: Pod) -> None:
        """Gives a pod its labels and volumes, and its claims their owners."""
        ordinal, model = self._ordinal(pod), self._whose.model
        try:
            if not pods.has_identity(model, ordinal, pod):
                await self._identify(pod, ordinal)
            await self._own(ordinal, pod.uid)
        except KedgeError as error:
            self._failed("update", pod.name, error)
            raise
        self._done("update", pod.name)

    async def _identify(self, pod: Pod, ordinal: int) -> None:
        """Volumes cannot be changed: a pod with others is refused, and stays for somebody to look at."""
        model = self._whose.model
        key = ObjectKey("", "pods", *pod.key)
        stored = self._client.get(key)
        if stored is None:
            return
        patch: Object = {"metadata": {"uid": pod.uid, "labels": pods.identity(model, ordinal)}}
        if not set(model.claim_names(ordinal)) <= set(pod.claims):
            await self._provide(ordinal)
            volumes = stored["spec"].get("volumes") or []
            patch["spec"] = {"volumes": pods.volumes_for(self._whose.stored, ordinal, volumes)}
        await self._client.patch(key, patch)

    async def _provide(self, ordinal: int) -> None:
        """Makes the claims of an ordinal that there are not.

        Raises:
            Conflict: not all of them are there to be used; the message says why.
        """
        record, pod = self._whose.record, self._whose.model.pod_name(ordinal)
        problems: list[str] = []
        for claim in pods.claims_for(self._whose.stored, ordinal).values():
            name = claim["metadata"]["name"]
            known = self._informer.claims.get(record.namespace, name)
            if known is not None:
                if known.deleted:
                    problems.append(f"pvc {name} is being deleted")
                continue
            try:
                await self._client.create(ObjectKey(*CLAIMS, record.namespace, name), claim)
            except KedgeError as error:
                problems.append(f"failed to create PVC {name}: {error}")
                message = f"create Claim {name} for Pod {pod} in StatefulSet {record.name} failed error: {error}"
                self._say(events.WARNING, "FailedCreate", message)
                continue
            message = f"create Claim {name} Pod {pod} in StatefulSet {record.name} success"
            self._say(events.NORMAL, "SuccessfulCreate", message)
        if problems:
            raise Conflict(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")

    async def _own(self, ordinal: int, pod_uid: str) -> None:
        """Gives the claims of an ordinal the owners that the policy asks for."""
        model = self._whose.model
        owners = self._owners(ordinal, pod_uid)
        for name in model.claim_names(ordinal):
            known = self._informer.claims.get(model.namespace, name)
            present = known.owners if known is not None else ()
            if known is not None and owners.conflict(present):
                message = f"PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim"
                self._say(events.WARNING, "ConflictingController", message)
            if owners.are_right(present):
                continue
            key = ObjectKey(*CLAIMS, model.namespace, name)
            stored = self._client.get(key)
            if stored is None:
                continue
            metadata = stored["metadata"]
            references = owners.corrected(metadata.get("ownerReferences") or [])
            fixed = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
            patch = {"metadata": {**fixed, "ownerReferences": references or None}}
            await self._client.patch(key, patch)

    def _owners(self, ordinal: int, pod_uid: str) -> Owners:
        model = self._whose.model
        return Owners(
            Holder("apps/v1", "StatefulSet", model.name, model.uid),
            Holder("v1", "Pod", model.pod_name(ordinal), pod_uid),
            model.retention,
            is_wanted=model.wants(ordinal),
        )

    def _ordinal(self, pod: Pod) -> int:
        ordinal = self._whose.model.ordinal_of(pod)
        if ordinal is None:
            raise AssertionError("only members are acted on")
        return ordinal

    # --- what is told

    def _done(self, verb: str, pod: str) -> None:
        message = f"{verb} Pod {pod} in StatefulSet {self._whose.record.name} successful"
        self._say(events.NORMAL, f"Successful{verb.title()}", message)

    def _failed(self, verb: str, pod: str, error: KedgeError) -> None:
        message = f"{verb} Pod {pod} in StatefulSet {self._whose.record.name} failed error: {error}"
        self._say(events.WARNING, f"Failed{verb.title()}", message)

    def _say(self, kind: str, reason: str, message: str) -> None:
        record = self._whose.record
        about = events.Reference("StatefulSet", "apps/v1", *record.key, record.uid)
        self._recorder.record(about, kind, reason, message)
