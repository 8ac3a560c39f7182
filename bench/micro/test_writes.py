# SPDX-License-Identifier: Apache-2.0
"""What Python costs per write, without HTTP: create of a pod, strategic-merge patch of its status.

Run with ``python -m pytest bench/micro/test_writes.py``. The store does not wait for the disk, so that the
figure is the processor's; the goal is well below 300 microseconds.
"""

from __future__ import annotations

import asyncio

import orjson
import pytest

from kedge.api import patches, schema, strategic_merge, validation
from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.cluster.apiserver.registry import Registry
from kedge.store import Store

POD = orjson.dumps(
    {
        "metadata": {"generateName": "load-", "labels": {"app": "load", "tier": "bench"}},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "busybox:1",
                    "command": ["sleep", "1000"],
                    "env": [{"name": f"V{i}", "value": "x"} for i in range(4)],
                    "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }
            ]
        },
    }
)
STATUS = orjson.dumps(
    {
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for kind in ("Ready", "ContainersReady", "Initialized")
            ],
            "containerStatuses": [
                {"name": "main", "ready": True, "restartCount": 0, "image": "x", "imageID": "x"}
            ],
        }
    }
)
PODS = ObjectKey("", "pods", "default", "")
BATCH = 32
"""Writes at a time, as of that many clients."""


@pytest.fixture
def cluster(tmp_path):
    loop = asyncio.new_event_loop()
    store = Store.open(tmp_path, mode="primary", durable=False)
    pump = loop.create_task(store.run())
    registry = Registry(store)
    loop.run_until_complete(prepare(registry))
    yield loop, registry
    pump.cancel()
    loop.run_until_complete(asyncio.gather(pump, return_exceptions=True))
    store.close()
    loop.close()


async def prepare(registry):
    await registry.create(
        ObjectKey("", "namespaces", "", "default"), {"metadata": {"name": "default"}}
    )
    await registry.create(
        ObjectKey("", "serviceaccounts", "default", "default"), {"metadata": {"name": "default"}}
    )


def test_create_32_pods(benchmark, cluster):
    loop, registry = cluster

    async def create():
        await asyncio.gather(
            *(registry.create_owned(PODS, orjson.loads(POD)) for _ in range(BATCH))
        )

    benchmark(lambda: loop.run_until_complete(create()))


def test_patch_the_status_of_32_pods(benchmark, cluster):
    loop, registry = cluster

    async def create():
        return await asyncio.gather(
            *(registry.create_owned(PODS, orjson.loads(POD)) for _ in range(BATCH))
        )

    keys = [
        PODS._replace(name=pod["metadata"]["name"]) for pod in loop.run_until_complete(create())
    ]
    turn = iter(range(1 << 30))

    async def patch():
        body = STATUS.replace(b"10.0.0.1", b"10.0.%d.1" % (next(turn) % 256))
        await asyncio.gather(
            *(registry.patch(key, body, patches.STRATEGIC, subresource="status") for key in keys)
        )

    benchmark(lambda: loop.run_until_complete(patch()))


def test_strategic_merge_of_one_status(benchmark):
    shape = schema.struct("io.k8s.api.core.v1.Pod")
    pod = orjson.dumps({**orjson.loads(POD), **orjson.loads(STATUS)})
    benchmark(lambda: strategic_merge.apply(orjson.loads(pod), orjson.loads(STATUS), shape))


def test_decode_and_validate_one_pod(benchmark):
    kind = find("", "pods")
    shape = schema.struct(kind.definition)
    from kedge.api import defaults

    pod = {**orjson.loads(POD), "metadata": {"name": "p"}}
    defaults.apply("", "pods", pod)
    data = orjson.dumps(pod)

    def check():
        obj = orjson.loads(data)
        schema.decode(shape, obj)
        validation.validate(kind, obj)

    benchmark(check)
