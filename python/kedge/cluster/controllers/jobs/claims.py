# SPDX-License-Identifier: Apache-2.0
"""Takes pods in and lets them go, with the finalizer that says whether they are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.job_pods import TRACKING
from kedge.cluster.machinery.owners import adopt, controller_reference, release
from kedge.cluster.machinery.selectors import is_empty, labels_match
from kedge.errors import Conflict, NotFound

if TYPE_CHECKING:
    from kedge.cluster.machinery.batch import Job
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Pod

ATTEMPTS = 5
"""How often a finalizer is taken away again when its node writes the pod meanwhile."""


async def claim(client: Client, informer: Informer, record: Job) -> list[Pod]:
    """The pods of a Job, once it has those that it selects and no others."""
    pods = informer.pods
    if not record.deleted and not is_empty(record.selector):
        reference = controller_reference("batch/v1", "Job", record)
        for pod in pods.owned_by(record.uid):
            if not labels_match(record.selector, pod.labels):
                key = ObjectKey("", "pods", *pod.key)
                await release(client, key, pod.uid, record.uid, finalizer=TRACKING)
        for pod in pods.strays(record.namespace):
            if not pod.deleted and labels_match(record.selector, pod.labels):
                key = ObjectKey("", "pods", *pod.key)
                await adopt(client, key, pod.uid, reference, finalizer=TRACKING)
        await informer.caught_up()
    return pods.owned_by(record.uid)


async def untrack(client: Client, pod: Pod) -> None:
    """Takes the finalizer from a pod; one that is gone has none.

    Raises:
        Conflict: the pod is written again and again.
    """
    key = ObjectKey("", "pods", *pod.key)
    for attempt in range(ATTEMPTS):
        stored = client.get(key)
        if stored is None or stored["metadata"]["uid"] != pod.uid:
            return
        metadata = stored["metadata"]
        finalizers = metadata.get("finalizers") or []
        if TRACKING not in finalizers:
            return
        change = {
            "uid": pod.uid,
            "resourceVersion": metadata["resourceVersion"],
            "finalizers": [each for each in finalizers if each != TRACKING] or None,
        }
        try:
            await client.patch(key, {"metadata": change})
        except NotFound:
            return
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return
