# SPDX-License-Identifier: Apache-2.0
"""GET and LIST over real HTTPS."""

from __future__ import annotations

import gzip

import pytest

from tests.integration.kubeapi.conftest import Api, labelled, pod

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


def names(items: list[dict]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def test_an_object_comes_back_with_the_revision_of_its_write(api: Api) -> None:
    revision = api.put(pod("a"))
    answer = api.get("/api/v1/namespaces/default/pods/a")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["metadata"]["resourceVersion"] == str(revision)
    assert api.get("/api/v1/namespaces/default/pods/a/status").json == answer.json


def test_a_missing_object_is_a_status_that_names_it(api: Api) -> None:
    answer = api.get("/apis/apps/v1/namespaces/default/deployments/web")
    assert answer.status == 404
    assert answer.json["reason"] == "NotFound"
    assert answer.json["message"] == 'deployments.apps "web" not found'
    assert answer.json["details"] == {"name": "web", "group": "apps", "kind": "deployments"}


def test_a_list_has_its_kind_and_one_revision_for_all(api: Api) -> None:
    api.put(pod("b"))
    api.put(pod("a"))
    newest = api.put(pod("c", "other"))
    listed = api.get("/api/v1/pods").json
    assert listed["kind"] == "PodList"
    assert listed["apiVersion"] == "v1"
    assert listed["metadata"]["resourceVersion"] == str(newest)
    assert names(listed["items"]) == ["a", "b", "c"]
    assert names(api.get("/api/v1/namespaces/other/pods").json["items"]) == ["c"]
    assert api.get("/api/v1/namespaces/none/pods").json["items"] == []


def test_selectors_narrow_a_list(api: Api) -> None:
    api.put(labelled("a", app="x"))
    api.put(labelled("b", app="y"))
    api.put(pod("c", nodeName="n1"))

    def listed(query: str) -> list[str]:
        return names(api.get(f"/api/v1/pods?{query}").json["items"])

    assert listed("labelSelector=app%3Dx") == ["a"]
    assert listed("labelSelector=app+in+(x,y)") == ["a", "b"]
    assert listed("labelSelector=!app") == ["c"]
    assert listed("fieldSelector=spec.nodeName%3Dn1") == ["c"]
    assert listed("fieldSelector=metadata.name!%3Da") == ["b", "c"]
    assert api.get("/api/v1/pods?labelSelector=a+b+c").status == 400


@pytest.mark.parametrize("query", ["", "&watch=1"])
def test_a_selector_of_a_field_that_no_kind_of_object_has_is_refused(api: Api, query: str) -> None:
    answer = api.get(f"/api/v1/pods?fieldSelector=spec.nothing%3D1{query}")
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    wanted = 'Unable to find "/v1, Resource=pods" that match label selector "", field selector "spec.nothing=1"'
    assert answer.json["message"] == f"{wanted}: field label not supported: spec.nothing"
    answer = api.request("DELETE", "/api/v1/namespaces/default/pods?fieldSelector=spec.nothing%3D1")
    assert (answer.status, api.asked) == (400, [])
    assert api.get("/api/v1/nodes?fieldSelector=metadata.namespace%3Da").status == 400


def test_what_a_field_is_when_it_is_absent(api: Api) -> None:
    for name, spec in (("a", {}), ("b", {"unschedulable": True})):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
        api.put(node)
    for value, found in (("false", ["a"]), ("true", ["b"])):
        answer = api.get(f"/api/v1/nodes?fieldSelector=spec.unschedulable%3D{value}")
        assert names(answer.json["items"]) == found


def test_pages_together_are_the_list_at_the_first_ones_revision(api: Api) -> None:
    for number in range(7):
        api.put(pod(f"p{number}"))
    first = api.get("/api/v1/pods?limit=3").json
    api.put(pod("p9"))
    api.delete(pod("p5"))
    found = names(first["items"])
    page = first
    while token := page["metadata"].get("continue"):
        page = api.get(f"/api/v1/pods?limit=3&continue={token}").json
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        found += names(page["items"])
    assert found == [f"p{number}" for number in range(7)]


def test_a_list_at_an_exact_revision_is_that_state(api: Api) -> None:
    then = api.put(pod("a"))
    api.put(pod("b"))
    exact = f"/api/v1/pods?resourceVersion={then}&resourceVersionMatch=Exact"
    assert names(api.get(exact).json["items"]) == ["a"]
    newer = f"/api/v1/pods?resourceVersion={then}&resourceVersionMatch=NotOlderThan"
    assert names(api.get(newer).json["items"]) == ["a", "b"]


def test_a_revision_still_to_come_is_a_timeout(api: Api) -> None:
    api.put(pod("a"))
    for path in (
        "/api/v1/pods?resourceVersion=999",
        "/api/v1/namespaces/default/pods/a?resourceVersion=999",
    ):
        answer = api.get(path)
        assert answer.status == 504
        assert answer.json["reason"] == "Timeout"
        assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_options_that_do_not_go_together_are_refused(api: Api) -> None:
    for query in (
        "resourceVersionMatch=Exact",
        "limit=x",
        "sendInitialEvents=true",
        "resourceVersion=x",
    ):
        answer = api.get(f"/api/v1/pods?{query}")
        assert (answer.status, answer.json["reason"]) == (400, "BadRequest"), query


def test_a_table_has_columns_rows_and_metadata(api: Api) -> None:
    api.put(pod("a"))
    table = api.get("/api/v1/pods", Accept=TABLE).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    shown = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert shown == ["Name", "Ready", "Status", "Restarts", "Age"]
    [row] = table["rows"]
    assert row["cells"][0] == "a"
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == "a"
    one = api.get("/api/v1/namespaces/default/pods/a?includeObject=Object", Accept=TABLE).json
    assert one["rows"][0]["object"]["spec"]["containers"][0]["name"] == "c"
    none = api.get("/api/v1/pods?includeObject=None", Accept=TABLE).json
    assert none["rows"][0]["object"] is None
    assert api.get("/api/v1/pods?includeObject=Some", Accept=TABLE).status == 400


def test_metadata_alone_can_be_asked_for(api: Api) -> None:
    api.put(pod("a"))
    listed = api.get("/api/v1/pods", Accept=METADATA).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"][0]["kind"] == "PartialObjectMetadata"
    assert "spec" not in listed["items"][0]


def test_protobuf_falls_through_to_json_or_is_refused(api: Api) -> None:
    api.put(pod("a"))
    both = "application/vnd.kubernetes.protobuf,application/json"
    assert api.get("/api/v1/pods", Accept=both).json["kind"] == "PodList"
    refused = api.get("/api/v1/pods", Accept="application/vnd.kubernetes.protobuf")
    assert (refused.status, refused.json["reason"]) == (406, "NotAcceptable")


def test_a_long_list_comes_whole(api: Api) -> None:
    for number in range(300):
        api.put(pod(f"p{number:04}", filler="x" * 1_000))
    listed = api.get("/api/v1/pods").json
    assert names(listed["items"]) == [f"p{number:04}" for number in range(300)]


def test_what_is_not_served_is_not_found(api: Api) -> None:
    for path in (
        "/api/v1/widgets",
        "/apis/apps/v2/deployments",
        "/api/v1/pods/a",
        "/api/v1/namespaces/default/nodes/n",
        "/api/v1/namespaces/default/pods/a/ephemeral",
        "/nothing",
    ):
        answer = api.get(path)
        assert (answer.status, answer.json["reason"]) == (404, "NotFound"), path


def test_documents_are_chosen_by_media_type_and_cached_by_tag(api: Api) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    api.server.set_document("/apis", "application/json", b"{}", "one")
    api.server.set_document("/apis", aggregated, b"[]", "two")
    plain = api.get("/apis", Accept="application/json")
    assert (plain.body, plain.headers["etag"]) == (b"{}", '"one"')
    both = api.get("/apis", Accept=f"{aggregated},application/json")
    assert (both.body, both.headers["content-type"]) == (b"[]", aggregated)
    known = api.get("/apis", Accept="application/json", If_None_Match='"one"')
    assert (known.status, known.body) == (304, b"")
    assert api.get("/apis", Accept="text/html").status == 406
    assert api.request("POST", "/apis", b"{}").status == 405


def test_a_document_that_is_being_made_is_asked_for_again(api: Api) -> None:
    api.server.expect_document("/openapi/v2")
    early = api.get("/openapi/v2", Accept="application/json")
    assert (early.status, early.headers["retry-after"]) == (503, "1")
    assert early.json["reason"] == "ServiceUnavailable"
    api.server.set_document("/openapi/v2", "application/json", b"{}")
    assert api.get("/openapi/v2", Accept="application/json").body == b"{}"


def test_health_and_version_need_no_one(api: Api) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert api.get(path, client="").body == b"ok"
    assert api.get("/version", client="").json["major"] == "1"
    api.server.set_ready(ready=False)
    assert api.get("/readyz", client="").status == 503


def test_a_large_list_is_compressed_for_who_asks(api: Api) -> None:
    for number in range(200):
        api.put(pod(f"p{number:04}", filler="x" * 1_000))
    plain = api.get("/api/v1/pods")
    packed = api.get("/api/v1/pods", Accept_Encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in api.get("/healthz", Accept_Encoding="gzip").headers
