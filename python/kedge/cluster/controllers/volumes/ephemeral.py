# SPDX-License-Identifier: Apache-2.0
"""Generic ephemeral volumes: a claim per pod and volume, which goes with the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import events
from kedge.errors import AlreadyExists, KedgeError

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod


class Ephemeral:
    """Makes the claims of pods.

    Args:
        client: writes; the template is read from the stored pod.
        informer: reads.
        recorder: events.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder

    async def reconcile(self, key: Key) -> None:
        """Makes the claims that a pod's ephemeral volumes lack."""
        pod = self._informer.pods.get(*key)
        if pod is None or pod.deleted or pod.finished:
            return
        stored = self._client.get(ObjectKey("", "pods", *key))
        if stored is None or stored["metadata"]["uid"] != pod.uid:
            return
        for volume in stored["spec"].get("volumes") or []:
            if volume.get("ephemeral"):
                await self._ensure(pod, stored, volume)

    async def _ensure(self, pod: Pod, stored: dict[str, Any], volume: dict[str, Any]) -> None:
        key = ObjectKey("", "persistentvolumeclaims", pod.namespace, f"{pod.name}-{volume['name']}")
        known = self._client.get(key)
        if known is not None:
            owners = known["metadata"].get("ownerReferences") or []
            if not any(one.get("uid") == pod.uid and one.get("controller") for one in owners):
                self._fail(
                    pod, f'PVC "{key.name}" was not created for pod "{pod.name}" (pod is not owner)'
                )
            return
        try:
            await self._client.create(key, claim_for(stored, volume))
        except AlreadyExists:
            return
        except KedgeError as error:
            self._fail(pod, f"ephemeral volume claim {key.name}: {error}")
            raise

    def _fail(self, pod: Pod, text: str) -> None:
        about = events.Reference("Pod", "v1", pod.namespace, pod.name, pod.uid)
        self._recorder.record(about, events.WARNING, "FailedBinding", text)


def claim_for(pod: dict[str, Any], volume: dict[str, Any]) -> dict[str, Any]:
    """The claim of one ephemeral volume, owned by its pod. Pure."""
    template = volume["ephemeral"].get("volumeClaimTemplate") or {}
    metadata, owner = template.get("metadata") or {}, pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"{owner['name']}-{volume['name']}",
            "namespace": owner["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": owner["name"],
                    "uid": owner["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": template.get("spec") or {},
    }
