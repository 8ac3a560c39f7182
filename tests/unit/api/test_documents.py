# SPDX-License-Identifier: Apache-2.0
"""Discovery, OpenAPI and its protobuf form."""

from __future__ import annotations

from kedge.api import discovery, gnostic, openapi
from kedge.api.kinds import KINDS


def test_every_kind_is_discovered_with_its_subresources():
    documents = discovery.documents("localhost:6443")
    for kind in KINDS:
        rows = {row["name"]: row for row in documents[kind.base]["resources"]}
        assert rows[kind.resource]["kind"] == kind.kind
        assert {f"{kind.resource}/{one.name}" for one in kind.subresources} <= rows.keys()
        assert rows[kind.resource]["namespaced"] == kind.namespaced
    scale = next(
        row for row in documents["/apis/apps/v1"]["resources"] if row["name"] == "deployments/scale"
    )
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")


def test_aggregated_discovery_has_the_same_resources():
    core = discovery.aggregated(core=True, version="v2")["items"]
    rest = discovery.aggregated(core=False, version="v2")["items"]
    assert [item["metadata"].get("name") for item in core] == [None]
    assert "apps" in [item["metadata"]["name"] for item in rest]
    pods = next(row for row in core[0]["versions"][0]["resources"] if row["resource"] == "pods")
    streams = {"attach", "exec", "log", "portforward"}
    own = {"binding", "ephemeralcontainers", "eviction", "resize", "status"}
    assert {one["subresource"] for one in pods["subresources"]} == own | streams


def test_openapi_describes_types_and_paths_of_every_kind():
    document = openapi.version_2()
    for kind in KINDS:
        where = f"{kind.base}/namespaces/{{namespace}}" if kind.namespaced else kind.base
        patch = document["paths"][f"{where}/{kind.resource}/{{name}}"]["patch"]
        assert patch["x-kubernetes-group-version-kind"]["kind"] == kind.kind
        assert {"dryRun", "fieldValidation"} <= {one["name"] for one in patch["parameters"]}
        assert document["definitions"][kind.definition]["x-kubernetes-group-version-kind"]
    containers = document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["description"].startswith("List of containers")


def test_every_reference_in_openapi_v3_is_in_its_document():
    names = []
    for name, document in openapi.version_3():
        names.append(name)
        text = str(document)
        for schema in document["components"]["schemas"]:
            assert "#/definitions/" not in text
            assert schema.startswith("io.k8s.")
    assert "api/v1" in names
    assert "apis/apps/v1" in names


def fields(data):
    """The fields of a protobuf message: number to the list of its values."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def test_the_protobuf_form_holds_definitions_where_gnostic_reads_them():
    document = fields(gnostic.encode(openapi.version_2()))
    assert document[1] == [b"2.0"]
    named = [fields(one) for one in fields(document[9][0])[1]]
    by_name = {one[1][0].decode(): fields(one[2][0]) for one in named}
    pod = by_name["io.k8s.api.core.v1.Pod"]
    assert pod[4][0].startswith(b"Pod is a collection of containers")
    assert fields(pod[22][0])[1] == [b"object"]
    extension = fields(pod[31][0])
    assert extension[1] == [b"x-kubernetes-group-version-kind"]
    assert b'"kind":"Pod"' in fields(extension[2][0])[2][0]
