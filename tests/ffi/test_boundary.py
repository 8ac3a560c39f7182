# SPDX-License-Identifier: Apache-2.0
"""The boundary itself: the GIL let go, wrong types refused, handles closed, nothing leaked."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.runtime.prober import NetworkProber
from kedge.errors import Closed
from kedge.runtime import Runtime
from kedge.store import Store, put

KEY = ObjectKey("", "configmaps", "default", "one")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store", mode="primary", durable=False)
    yield opened
    opened.close()


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_other_threads_go_on_while_rust_works(store: Store) -> None:
    value = json.dumps({"metadata": {"name": "x"}, "data": {"text": "x" * 5000}}).encode()
    store.commit_now([put(KEY._replace(name=f"n{at}"), value) for at in range(4000)])
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    usual = sys.getswitchinterval()
    # So long that a thread runs only when another lets go by itself.
    sys.setswitchinterval(30)
    thread.start()
    try:
        before = counted
        for _ in range(20):
            store.list("", "configmaps", limit=4000)
        after = counted
    finally:
        stop.set()
        sys.setswitchinterval(usual)
        thread.join()
    assert after > before


@pytest.mark.parametrize(
    ("call", "wrong"),
    [("get", (1,)), ("list", (None, 5)), ("commit_now", ("no list",)), ("owned", (b"uid",))],
)
def test_a_wrong_type_is_a_type_error(store: Store, call: str, wrong: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(store.handle, call)(*wrong)


def test_a_closed_store_refuses_with_its_own_error(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "closed", mode="primary", durable=False)
    store.close()
    store.close()
    with pytest.raises(Closed):
        store.get(KEY)
    with pytest.raises(Closed):
        store.commit_now([put(KEY, b"{}")])


async def test_a_closed_runtime_refuses_with_its_own_error() -> None:
    runtime = Runtime(1)
    prober = NetworkProber(runtime)
    runtime.close()
    with pytest.raises(Closed):
        await prober.probe({"kind": "tcp", "host": "127.0.0.1", "port": 1}, 1)


def test_opening_and_watching_again_and_again_leaks_neither_descriptors_nor_memory(
    tmp_path: Path,
) -> None:
    def once() -> None:
        store = Store.open(tmp_path / "again", mode="primary", durable=False)
        store.commit_now([put(KEY, b'{"metadata":{"name":"one"}}')])
        for _ in range(5):
            store.watch([("", "configmaps")]).close()
            store.get(KEY)
        store.close()

    for _ in range(20):
        once()
    gc.collect()
    open_before, memory_before = descriptors(), resident_kib()
    for _ in range(100):
        once()
    gc.collect()
    assert descriptors() <= open_before
    # A hundred stores with their maps would be far more than this.
    assert resident_kib() - memory_before < 16 << 10
