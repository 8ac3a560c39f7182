# SPDX-License-Identifier: Apache-2.0
"""WATCH over real HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.kubeapi.conftest import Api, Keys, Watched, labelled, pod, serve

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.runtime import Runtime

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def test_a_watch_from_a_revision_sees_what_came_after_it(api: Api) -> None:
    revision = api.put(pod("before"))
    watch = Watched(api, f"/api/v1/pods?watch=1&resourceVersion={revision}")
    api.put(pod("a"))
    api.put(pod("a", nodeName="n"))
    gone = api.delete(pod("a"))
    assert watch.take(2) == [("ADDED", "a"), ("MODIFIED", "a")]
    last = watch.next()
    assert last["type"] == "DELETED"
    assert last["object"]["metadata"]["resourceVersion"] == str(gone)
    assert last["object"]["spec"]["nodeName"] == "n"
    watch.close()


def test_a_watch_without_a_revision_begins_with_what_is_there(api: Api) -> None:
    api.put(pod("a"))
    api.put(pod("b"))
    watch = Watched(api, "/api/v1/namespaces/default/pods?watch=true&resourceVersion=0")
    assert watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
    api.put(pod("other", "elsewhere"))
    api.put(pod("c"))
    assert watch.take(1) == [("ADDED", "c")]
    watch.close()


def test_entering_the_selector_is_added_and_leaving_it_deleted(api: Api) -> None:
    revision = api.put(labelled("a", app="x"))
    watch = Watched(api, f"/api/v1/pods?watch=1&resourceVersion={revision}&labelSelector=app%3Dx")
    left = api.put(labelled("a", app="y"))
    api.put(labelled("a", app="z"))
    api.put(labelled("a", app="x"))
    api.put(labelled("a", app="x", more="yes"))
    first = watch.next()
    assert first["type"] == "DELETED"
    assert first["object"]["metadata"]["labels"] == {"app": "x"}, "the last state that matched"
    assert first["object"]["metadata"]["resourceVersion"] == str(left)
    assert watch.take(2) == [("ADDED", "a"), ("MODIFIED", "a")]
    watch.close()


def test_one_object_is_watched_by_its_name(api: Api) -> None:
    revision = api.put(pod("b"))
    by_field = Watched(
        api, f"/api/v1/pods?watch=1&resourceVersion={revision}&fieldSelector=metadata.name%3Da"
    )
    legacy = Watched(api, f"/api/v1/watch/namespaces/default/pods/a?resourceVersion={revision}")
    api.put(pod("b"))
    api.put(pod("a"))
    for watch in (by_field, legacy):
        assert watch.take(1) == [("ADDED", "a")]
        watch.close()


def test_initial_events_end_with_a_marked_bookmark(api: Api) -> None:
    newest = api.put(pod("a"))
    watch = Watched(
        api,
        "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    )
    assert watch.take(1) == [("ADDED", "a")]
    mark = watch.next()
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["kind"] == "Pod"
    assert mark["object"]["metadata"]["resourceVersion"] == str(newest)
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    api.put(pod("b"))
    assert watch.take(1) == [("ADDED", "b")]
    watch.close()


def test_a_watch_ends_at_its_timeout_with_a_last_bookmark(api: Api) -> None:
    revision = api.put(pod("a"))
    watch = Watched(
        api,
        f"/api/v1/pods?watch=1&resourceVersion={revision}&timeoutSeconds=1&allowWatchBookmarks=1",
    )
    newest = api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    mark = watch.next()
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["resourceVersion"] == str(newest)
    assert watch.next() is None
    watch.close()


def test_bookmarks_come_now_and_then(runtime: Runtime, tmp_path: Path, keys: Keys) -> None:
    api = serve(runtime, tmp_path, keys, bookmark_seconds=0.2)
    revision = api.put(pod("a"))
    watch = Watched(api, f"/api/v1/pods?watch=1&resourceVersion={revision}&allowWatchBookmarks=1")
    assert [watch.next()["type"] for _ in range(2)] == ["BOOKMARK", "BOOKMARK"]
    watch.close()
    api.server.close()
    api.store.close()


@pytest.mark.parametrize("version", [1, 10_000])
def test_a_revision_out_of_reach_is_an_error_event_of_410(
    runtime: Runtime, tmp_path: Path, keys: Keys, version: int
) -> None:
    api = serve(runtime, tmp_path, keys, history=10)
    for number in range(40):
        api.put(pod(f"p{number}"))
    watch = Watched(api, f"/api/v1/pods?watch=1&resourceVersion={version}")
    event = watch.next()
    assert event["type"] == "ERROR"
    assert event["object"]["kind"] == "Status"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert watch.next() is None
    watch.close()
    api.server.close()
    api.store.close()


def test_a_watched_table_has_its_columns_once(api: Api) -> None:
    revision = api.put(pod("a"))
    watch = Watched(api, f"/api/v1/pods?watch=1&resourceVersion={revision}", Accept=TABLE)
    api.put(pod("b"))
    api.put(pod("c"))
    first, second = watch.next(), watch.next()
    assert first["object"]["kind"] == "Table"
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert first["object"]["rows"][0]["cells"][0] == "b"
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "c"
    watch.close()


def test_closing_the_server_ends_its_watches(api: Api) -> None:
    revision = api.put(pod("a"))
    watch = Watched(api, f"/api/v1/pods?watch=1&resourceVersion={revision}")
    api.server.close()
    assert watch.next() is None
    watch.close()


def test_too_many_watches_are_refused_with_a_time_to_come_back(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, watches=1)
    watch = Watched(api, "/api/v1/pods?watch=1")
    answer = api.get("/api/v1/pods?watch=1")
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")
    watch.close()
    api.server.close()
    api.store.close()
