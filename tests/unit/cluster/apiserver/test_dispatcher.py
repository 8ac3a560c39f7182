# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.access import Access
from kedge.cluster.apiserver.dispatcher import Dispatcher
from kedge.cluster.apiserver.reviews import Reviews
from kedge.cluster.apiserver.server import Request
from kedge.cluster.apiserver.tokens import Tokens
from kedge.errors import (
    ApiError,
    BadRequest,
    CertificateError,
    Conflict,
    Invalid,
    NotFound,
    UnsupportedMediaType,
)
from kedge.hub import certificates

ISSUER = "https://test"


class Everything:
    """A decider that lets masters do all, and others read pods and /version."""

    def allows(self, user, verb, about):
        is_reading = verb == "get" and about.resource == "pods"
        return "system:masters" in user.groups or is_reading

    def allows_url(self, user, verb, path):
        return "system:masters" in user.groups or path == "/version"

    def lacks(self, user, namespace, rules):
        return [] if "system:masters" in user.groups else [str(one) for one in rules]

    def rules(self, user, namespace):
        return {"resourceRules": [{"verbs": ["get"]}], "nonResourceRules": [], "incomplete": False}


@pytest.fixture
def tokens(registry):
    return Tokens(registry, certificates.new_key(), ISSUER)


@pytest.fixture
def ask(registry, tokens):
    dispatcher = Dispatcher(registry, tokens, Reviews(tokens, Access(Everything()), registry.store))

    async def ask(
        method,
        resource,
        name="",
        subresource="",
        body=None,
        *,
        group="",
        namespace="default",
        query="",
        kind="application/json",
        groups=("system:masters",),
        version="v1",
    ):
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        request = Request(
            1,
            method,
            "/",
            group,
            version,
            resource,
            namespace,
            name,
            subresource,
            query,
            "me",
            list(groups),
            kind,
            "",
            data,
        )
        response = await dispatcher.handle(request)
        return response.status, json.loads(response.body), dict(response.headers)

    return ask


CONFIG = {"metadata": {"name": "c"}, "data": {"a": "1"}}
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
DEPLOYMENT = {
    "metadata": {"name": "d"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        },
    },
}


async def test_objects_are_created_replaced_patched_and_deleted(ask):
    status, made, _ = await ask("POST", "configmaps", body=CONFIG)
    assert (status, made["data"]) == (201, {"a": "1"})
    status, changed, _ = await ask("PUT", "configmaps", "c", body={**made, "data": {"a": "2"}})
    assert (status, changed["data"]) == (200, {"a": "2"})
    status, patched, _ = await ask(
        "PATCH",
        "configmaps",
        "c",
        body={"data": {"b": "3"}},
        kind="application/merge-patch+json; charset=utf-8",
    )
    assert (status, patched["data"]) == (200, {"a": "2", "b": "3"})
    status, gone, _ = await ask("DELETE", "configmaps", "c")
    assert (status, gone["status"], gone["details"]["uid"]) == (
        200,
        "Success",
        made["metadata"]["uid"],
    )


async def test_a_warning_tells_of_unknown_and_duplicate_fields(ask):
    body = b'{"metadata": {"name": "c"}, "dataa": {}, "data": {"k": "1", "k": "2"}}'
    _, _, headers = await ask("POST", "configmaps", body=body)
    assert headers["Warning"].startswith('299 - "')
    with pytest.raises(ApiError, match="strict decoding error"):
        await ask(
            "POST", "configmaps", body=body.replace(b'"c"', b'"d"'), query="fieldValidation=Strict"
        )


async def test_server_side_apply_creates_with_201_and_changes_with_200(ask):
    kind, query = "application/apply-patch+yaml", "fieldManager=me&force=true"
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
    status, made, _ = await ask("PATCH", "configmaps", "c", body=body, kind=kind, query=query)
    assert (status, made["data"]) == (201, {"a": "1"})
    body = body.replace(b"'1'", b"'2', a: '3'")
    status, made, headers = await ask("PATCH", "configmaps", "c", body=body, kind=kind, query=query)
    assert (status, made["data"]) == (200, {"a": "3"})
    assert "already set in map" in headers["Warning"]
    with pytest.raises(BadRequest, match="error strict decoding YAML"):
        await ask(
            "PATCH",
            "configmaps",
            "c",
            body=body,
            kind=kind,
            query=query + "&fieldValidation=Strict",
        )
    with pytest.raises(Invalid, match="is required for apply patch"):
        await ask("PATCH", "configmaps", "c", body=body, kind=kind)


async def test_a_scale_can_be_applied(ask):
    await ask("POST", "deployments", body=DEPLOYMENT, group="apps")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 4}}
    kind, query = "application/apply-patch+yaml", "fieldManager=me&force=true"
    words = ("PATCH", "deployments", "d", "scale")
    status, scaled, _ = await ask(*words, body=scale, kind=kind, query=query, group="apps")
    assert (status, scaled["spec"]["replicas"]) == (200, 4)
    with pytest.raises(BadRequest, match="wanted autoscaling/v1 Scale"):
        await ask(*words, body=DEPLOYMENT, kind=kind, query=query, group="apps")


async def test_formats_that_are_not_served_are_refused_cleanly(ask):
    for kind in ("application/apply-patch+cbor", "application/apply-patch+json"):
        with pytest.raises(UnsupportedMediaType, match="apply-patch"):
            await ask("PATCH", "configmaps", "c", body={}, kind=kind)
    with pytest.raises(UnsupportedMediaType):
        await ask("POST", "configmaps", body=CONFIG, kind="application/xml")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
async def test_a_body_that_is_no_object_is_refused(ask, body):
    with pytest.raises(ApiError) as caught:
        await ask("POST", "configmaps", body=body)
    assert caught.value.code == 400


async def test_what_is_not_served_is_not_found(ask):
    with pytest.raises(NotFound):
        await ask("POST", "widgets", body=CONFIG)
    with pytest.raises(NotFound):
        await ask("POST", "configmaps", body=CONFIG, version="v2")


async def test_scale_is_read_replaced_and_patched(ask):
    await ask("POST", "deployments", body=DEPLOYMENT, group="apps")
    _, scale, _ = await ask("GET", "deployments", "d", "scale", group="apps")
    assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (1, "a=b")
    scale["spec"]["replicas"] = 3
    _, scale, _ = await ask("PUT", "deployments", "d", "scale", body=scale, group="apps")
    assert scale["spec"]["replicas"] == 3
    _, scale, _ = await ask(
        "PATCH",
        "deployments",
        "d",
        "scale",
        body={"spec": {"replicas": 5}},
        group="apps",
        kind="application/merge-patch+json",
    )
    assert scale["spec"]["replicas"] == 5
    scale["metadata"]["resourceVersion"] = "1"
    with pytest.raises(Conflict):
        await ask("PUT", "deployments", "d", "scale", body=scale, group="apps")


async def test_a_pod_is_bound_and_evicted(ask, registry):
    await ask("POST", "pods", body=POD)
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    status, answer, _ = await ask("POST", "pods", "p", "binding", body=binding)
    assert (status, answer["status"]) == (201, "Success")
    assert registry.get(ObjectKey("", "pods", "default", "p"))["spec"]["nodeName"] == "n1"
    eviction = {"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}}
    assert (await ask("POST", "pods", "p", "eviction", body=eviction))[0] == 201
    with pytest.raises(NotFound):
        registry.get(ObjectKey("", "pods", "default", "p"))


async def test_dry_run_and_bad_options(ask, registry):
    await ask("POST", "configmaps", body=CONFIG, query="dryRun=All")
    with pytest.raises(NotFound):
        registry.get(ObjectKey("", "configmaps", "default", "c"))
    for query in ("dryRun=Some", "fieldValidation=Maybe"):
        with pytest.raises(ApiError, match="Unsupported value"):
            await ask("POST", "configmaps", body=CONFIG, query=query)


async def test_a_token_is_bound_to_its_pod_and_ends_with_it(ask, registry, tokens):
    await ask("POST", "pods", body=POD)
    uid = registry.get(ObjectKey("", "pods", "default", "p"))["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    spec = {"audiences": ["vault"], "expirationSeconds": 600, "boundObjectRef": bound}
    status, request, _ = await ask(
        "POST", "serviceaccounts", "default", "token", body={"spec": spec}
    )
    assert status == 201
    token = request["status"]["token"]
    identity = tokens.review(token, ["vault"])
    assert identity.user == "system:serviceaccount:default:default"
    assert identity.extra["authentication.kubernetes.io/pod-name"] == ["p"]
    with pytest.raises(CertificateError):
        tokens.review(token, ["other"])
    await ask("DELETE", "pods", "p")
    with pytest.raises(CertificateError, match="is gone"):
        tokens.review(token, ["vault"])


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"expirationSeconds": 599}, Invalid),
        ({"expirationSeconds": 1 << 40}, Invalid),
        ({"boundObjectRef": {"kind": "Deployment", "name": "d"}}, ApiError),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "nobody"}}, NotFound),
    ],
)
async def test_a_token_out_of_bounds_is_refused(ask, spec, error):
    with pytest.raises(error):
        await ask("POST", "serviceaccounts", "default", "token", body={"spec": spec})


async def test_reviews_say_who_and_what_is_allowed(ask, tokens):
    _, review, _ = await ask(
        "POST", "selfsubjectreviews", body={}, group="authentication.k8s.io", namespace=""
    )
    assert review["status"]["userInfo"] == {"username": "me", "groups": ["system:masters"]}
    spec = {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}

    async def allowed(groups):
        _, answer, _ = await ask(
            "POST",
            "selfsubjectaccessreviews",
            body={"spec": spec},
            group="authorization.k8s.io",
            groups=groups,
        )
        return answer["status"]["allowed"]

    _, review, _ = await ask(
        "POST",
        "selfsubjectrulesreviews",
        body={"spec": {"namespace": "default"}},
        group="authorization.k8s.io",
    )
    assert review["status"]["resourceRules"] == [{"verbs": ["get"]}]
    with pytest.raises(BadRequest, match="no namespace on request"):
        await ask(
            "POST", "selfsubjectrulesreviews", body={"spec": {}}, group="authorization.k8s.io"
        )
    assert await allowed(("system:masters",))
    assert not await allowed(("kedge:cloud",))
    token = tokens.request("default", "default", {})["status"]["token"]
    _, review, _ = await ask(
        "POST", "tokenreviews", body={"spec": {"token": token}}, group="authentication.k8s.io"
    )
    assert review["status"]["authenticated"]
    _, review, _ = await ask(
        "POST", "tokenreviews", body={"spec": {"token": token + "x"}}, group="authentication.k8s.io"
    )
    assert "authenticated" not in review["status"]
