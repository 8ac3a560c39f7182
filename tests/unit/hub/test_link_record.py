# SPDX-License-Identifier: Apache-2.0
"""What a stopped agent last knew of its link."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kedge.api.keys import ObjectKey
from kedge.hub.client import LINK_KEY, read_link_record
from kedge.store import Store, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path, mode="replica", durable=False)
    yield store
    store.close()


def report(name: str) -> ObjectKey:
    return ObjectKey("", "pods/status", "default", name)


def test_a_node_that_never_had_a_link_says_so(store: Store) -> None:
    store.commit_now([put(report("a"), b'{"metadata":{}}')])
    assert read_link_record(store) == {"state": "never", "waiting": 1}


def test_reports_after_the_acknowledged_revision_wait(store: Store) -> None:
    (revision,) = store.commit_now([put(report("a"), b'{"metadata":{}}')])
    store.commit_now([put(report("b"), b'{"metadata":{}}'), put(report("c"), b'{"metadata":{}}')])
    status = {"state": "disconnected", "reported": revision, "lastError": "cut"}
    record = {"metadata": {"name": "hub"}, "status": status}
    store.commit_now([put(LINK_KEY, json.dumps(record).encode())])
    found = read_link_record(store)
    assert (found["state"], found["lastError"], found["waiting"]) == ("disconnected", "cut", 2)
