# SPDX-License-Identifier: Apache-2.0
"""What crossing between Python and Rust costs, and the Python that runs most often.

Run with ``python -m pytest bench/micro/test_boundary.py``. The store does not wait for the disk, so that the
figures are the processor's.
"""

from __future__ import annotations

import asyncio

import orjson
import pytest

from kedge.api import defaults, selectors
from kedge.api.keys import ObjectKey
from kedge.store import Store, put

COUNT = 1000
KEY = ObjectKey("", "configmaps", "default", "c-00500")
VALUE = orjson.dumps(
    {
        "metadata": {"name": "c", "namespace": "default", "labels": {"app": "web"}},
        "data": {"k": "v" * 400},
    }
)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path, mode="primary", durable=False)
    opened.commit_now([put(KEY._replace(name=f"c-{at:05d}"), VALUE) for at in range(COUNT)])
    yield opened
    opened.close()


def test_get_one_object(benchmark, store):
    assert benchmark(store.get, KEY) is not None


def test_list_1000_objects(benchmark, store):
    listed = benchmark(lambda: store.list("", "configmaps"))
    assert len(listed.items) == COUNT


def test_list_by_a_label_that_none_has(benchmark, store):
    listed = benchmark(lambda: store.list("", "configmaps", labels="app=other"))
    assert not listed.items


def test_commit_one_object(benchmark, store):
    benchmark(store.commit_now, [put(KEY, VALUE)])


def test_commit_32_at_a_time_from_a_loop(benchmark, store):
    loop = asyncio.new_event_loop()
    pump = loop.create_task(store.run())

    async def commit():
        await asyncio.gather(
            *(store.commit([put(KEY._replace(name=f"c-{at:05d}"), VALUE)]) for at in range(32))
        )

    benchmark(lambda: loop.run_until_complete(commit()))
    pump.cancel()
    loop.run_until_complete(asyncio.gather(pump, return_exceptions=True))
    loop.close()


def test_an_event_from_commit_to_a_watching_loop(benchmark, store):
    loop = asyncio.new_event_loop()
    watch = store.watch([("", "configmaps")])
    events = aiter(watch)

    async def see():
        store.commit_now([put(KEY, VALUE)])
        return await anext(events)

    assert benchmark(lambda: loop.run_until_complete(see()))
    loop.run_until_complete(events.aclose())
    watch.close()
    loop.close()


def test_match_a_selector(benchmark):
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["back"]},
            {"key": "release", "operator": "Exists"},
        ],
    }
    labels = {"app": "web", "tier": "front", "release": "1"}
    assert benchmark(selectors.matches, selector, labels)


def test_default_a_pod(benchmark):
    pod = orjson.dumps(
        {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    )
    benchmark(lambda: defaults.apply("", "pods", orjson.loads(pod)))
