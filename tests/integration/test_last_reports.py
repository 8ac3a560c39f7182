# SPDX-License-Identifier: Apache-2.0
"""What an agent that is told to end still has to say: written, unless the store does not take it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.events import Recorder
from kedge.edge.kubelet.reports import Reporter, status_key, write_last
from kedge.errors import Full
from kedge.store import Store, put
from tests.unit.edge.kubelet.builders import pod

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = "Stopping container main"


async def ended(store: Store) -> tuple[Reporter, Recorder]:
    """A reporter and a recorder that were cancelled before they wrote what they were told."""
    reporter, recorder = Reporter(store, "edge-1"), Recorder(store, "edge-1")
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(one.run()) for one in (store, reporter, recorder)]
    await asyncio.sleep(0.01)
    recorder.pod(pod(), "Killing", MESSAGE)
    reporter.pod_status(pod(), {"phase": "Running"}, urgent=False)
    for one in tasks:
        one.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not store.list("", "events").items
    return reporter, recorder


def written(store: Store) -> tuple[list[str], str]:
    """The messages of Events, and the phase that the pod is reported in."""
    events = [json.loads(one.value)["message"] for one in store.list("", "events").items]
    metadata = pod()["metadata"]
    found = store.get(status_key(metadata["namespace"], metadata["name"]))
    return events, json.loads(found.value)["status"]["phase"] if found else ""


async def test_what_waited_to_be_written_is_written_at_the_end(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", mode="replica")
    reporter, recorder = await ended(store)
    await write_last(store, reporter, recorder)
    store.close()
    again = Store.open(tmp_path / "store", mode="replica")
    assert written(again) == ([MESSAGE], "Running")
    again.close()


async def test_a_full_store_does_not_keep_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(tmp_path / "store", mode="replica")
    reporter, recorder = await ended(store)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(Full):
            fill(store)
        await write_last(store, reporter, recorder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert written(store) == ([], "")
    assert "the last reports are not written" in caplog.text
    store.close()


async def test_a_store_that_is_closed_does_not_keep_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(tmp_path / "store", mode="replica")
    reporter, recorder = await ended(store)
    store.close()
    await write_last(store, reporter, recorder)
    assert "the last reports are not written" in caplog.text


def fill(store: Store) -> None:
    """Writes until the store has no room, then what little still fits."""
    for bytes_each in (20_000, 1_000, 100):
        for number in range(100):
            key = ObjectKey("", "configmaps", "default", f"m{bytes_each}-{number}")
            value = {"metadata": {"name": key.name}, "data": {"filler": "x" * bytes_each}}
            try:
                store.commit_now([put(key, json.dumps(value).encode())])
            except Full:
                if bytes_each == 100:
                    raise
                break
