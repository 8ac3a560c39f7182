# SPDX-License-Identifier: Apache-2.0
"""Webhooks against a real HTTPS server: what they are asked, what they may do, and what happens when they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.access import User
from kedge.cluster.apiserver.admission.webhooks import calling
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import ApiError, BadRequest, Forbidden, Invalid
from kedge.store import put
from tests.fakes.webhook import WebhookServer, webhook_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Object = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
SERVICE_NAMES = ("localhost", "hook.default.svc")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebhookServer]:
    with webhook_server(tmp_path, SERVICE_NAMES) as made:
        yield made


def rule(resources: str = "configmaps", *operations: str, group: str = "") -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": [resources],
        "operations": list(operations or ("*",)),
    }


def hook(name: str, client: Object, **more: Any) -> Object:
    return {
        "name": f"{name}.example.com",
        "clientConfig": client,
        "rules": [rule()],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def configure(registry: Any, kind: str, *hooks: Object, name: str = "hooks") -> None:
    key = ObjectKey(GROUP, f"{kind.lower()}webhookconfigurations", "", name)
    await registry.create(key, {"metadata": {"name": name}, "webhooks": list(hooks)})


def maps(name: str = "one", namespace: str = "default") -> ObjectKey:
    return ObjectKey("", "configmaps", namespace, name)


def config_map(name: str = "one", **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


def client() -> WriteOptions:
    return WriteOptions(user=User("somebody", ("team",)))


async def test_it_is_asked_with_all_that_upstream_says(
    registry: Any, server: WebhookServer
) -> None:
    await configure(registry, "Validating", hook("a", server.client("/p")))
    await registry.create(maps(), config_map(a="1"), client())
    await registry.patch(maps(), {"data": {"a": "2"}})
    await registry.delete(maps(), {}, client())
    create, update, delete = server.asked
    assert (create["path"], create["apiVersion"]) == ("/p?timeout=10s", "admission.k8s.io/v1")
    assert (
        create["kind"]
        == create["requestKind"]
        == {"group": "", "version": "v1", "kind": "ConfigMap"}
    )
    assert create["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (create["name"], create["namespace"], create["dryRun"]) == ("one", "default", False)
    assert create["userInfo"] == {"username": "somebody", "groups": ["team"]}
    assert (create["operation"], create["oldObject"]) == ("CREATE", None)
    assert create["object"]["data"] == {"a": "1"}
    assert create["object"]["kind"] == "ConfigMap"
    assert create["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
    assert (update["operation"], update["object"]["data"], update["oldObject"]["data"]) == (
        "UPDATE", {"a": "2"}, {"a": "1"},
    )  # fmt: skip
    assert update["userInfo"]["username"] == "system:kube-controller-manager"
    assert (delete["operation"], delete["object"]) == ("DELETE", None)
    assert delete["oldObject"]["data"] == {"a": "2"}


async def test_a_refusal_is_said_in_its_words(registry: Any, server: WebhookServer) -> None:
    await configure(registry, "Validating", hook("a", server.client()))
    server.answer = lambda _: {"allowed": False, "status": {"message": "not today", "code": 403, "reason": "Forbidden"}}  # fmt: skip
    with pytest.raises(Forbidden) as caught:
        await registry.create(maps(), config_map())
    text = 'admission webhook "a.example.com" denied the request: not today'
    assert (str(caught.value), caught.value.code, caught.value.reason) == (text, 403, "Forbidden")
    server.answer = lambda _: {"allowed": False, "status": {"code": 200}}
    with pytest.raises(Forbidden) as caught:
        await registry.create(maps(), config_map())
    text = 'admission webhook "a.example.com" denied the request without explanation'
    assert (str(caught.value), caught.value.code) == (text, 400)
    server.answer = lambda _: {}
    await registry.create(maps(), config_map())
    server.answer = lambda _: {"allowed": False}
    with pytest.raises(Forbidden):
        await registry.delete(maps(), {})
    assert registry.get(maps())["metadata"].get("deletionTimestamp") is None


async def test_warnings_reach_the_client(registry: Any, server: WebhookServer) -> None:
    await configure(registry, "Validating", hook("a", server.client()))
    server.answer = lambda _: {"warnings": ["careful"]}
    options = client()
    await registry.create(maps(), config_map(), options)
    assert options.warnings == ["careful"]


async def test_patches_are_applied_in_the_order_of_names(
    registry: Any, server: WebhookServer
) -> None:
    def answer(request: Object) -> Object:
        trail = request["object"].get("data", {}).get("trail", "") + request["path"][1]
        return {"patch": [{"op": "add", "path": "/data", "value": {"trail": trail}}]}

    server.answer = answer
    await configure(registry, "Mutating", hook("x", server.client("/c")), name="second")
    await configure(
        registry, "Mutating", hook("z", server.client("/a")), hook("y", server.client("/b")), name="first"
    )  # fmt: skip
    made = await registry.create(maps(), config_map())
    assert made["data"] == {"trail": "abc"}


async def test_a_changed_object_is_defaulted_checked_and_completed_again(
    registry: Any, server: WebhookServer
) -> None:
    pods = hook("a", server.client(), rules=[rule("pods", "CREATE")])
    await configure(registry, "Mutating", pods)
    sidecar = {"name": "side", "image": "s"}
    server.answer = lambda _: {
        "patch": [
            {"op": "add", "path": "/spec/containers/-", "value": sidecar},
            {"op": "add", "path": "/spec/nonsense", "value": 1},
            {"op": "replace", "path": "/metadata/uid", "value": "forged"},
            {"op": "add", "path": "/status", "value": {"phase": "Running"}},
        ]
    }
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    made = await registry.create(ObjectKey("", "pods", "default", "p"), body)
    added = made["spec"]["containers"][1]
    assert added["imagePullPolicy"] == "Always"
    assert added["volumeMounts"], "the account's token is mounted there too"
    assert "nonsense" not in made["spec"]
    assert made["metadata"]["uid"] != "forged"
    assert made["status"]["phase"] == "Pending"
    server.answer = lambda _: {"patch": [{"op": "remove", "path": "/spec/containers/0/image"}]}
    with pytest.raises(Invalid):
        await registry.create(
            ObjectKey("", "pods", "default", "q"), {**body, "metadata": {"name": "q"}}
        )


async def test_those_who_want_to_see_what_others_made_are_asked_again(
    registry: Any, server: WebhookServer
) -> None:
    def answer(request: Object) -> Object:
        data = dict(request["object"].get("data") or {})
        if request["path"].startswith("/last"):
            return {"patch": [{"op": "add", "path": "/data", "value": {**data, "last": "1"}}]}
        data["seen"] = ",".join(sorted(data))
        return {"patch": [{"op": "add", "path": "/data", "value": data}]}

    server.answer = answer
    first = hook("first", server.client("/first"), reinvocationPolicy="IfNeeded")
    await configure(registry, "Mutating", first, hook("last", server.client("/last")))
    made = await registry.create(maps(), config_map(a="1"))
    assert made["data"] == {"a": "1", "last": "1", "seen": "a,last,seen"}
    assert [one["path"].split("?")[0] for one in server.asked] == ["/first", "/last", "/first"]


@pytest.mark.parametrize(
    ("more", "is_asked"),
    [
        ({"rules": [rule("*")]}, True),
        ({"rules": [rule("*/*")]}, True),
        ({"rules": [rule("configmaps/*")]}, True),
        ({"rules": [rule("secrets")]}, False),
        ({"rules": [rule("configmaps", "UPDATE", "DELETE")]}, False),
        ({"rules": [rule(group="apps")]}, False),
        ({"rules": [{**rule(), "apiVersions": ["v2"]}]}, False),
        ({"rules": [{**rule(), "scope": "Cluster"}]}, False),
        ({"rules": [{**rule(), "scope": "Namespaced"}]}, True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, False),
        ({"objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}}, True),
        ({"objectSelector": {"matchLabels": {"watch": "me"}}}, False),
    ],
)  # fmt: skip
async def test_only_what_it_wants_is_shown(
    registry: Any, server: WebhookServer, more: Object, is_asked: bool
) -> None:
    await configure(registry, "Validating", hook("a", server.client(), **more))
    await registry.create(maps(), config_map())
    assert bool(server.asked) is is_asked


async def test_configurations_of_admission_are_never_shown(
    registry: Any, server: WebhookServer
) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}  # fmt: skip
    server.answer = lambda _: {"allowed": False}
    await configure(registry, "Validating", hook("a", server.client(), rules=[everything]))
    await configure(registry, "Mutating", hook("a", server.client()), name="other")
    await registry.delete(ObjectKey(GROUP, "validatingwebhookconfigurations", "", "hooks"), {})
    assert server.asked == []
    await registry.create(ObjectKey("", "secrets", "default", "s"), {"metadata": {"name": "s"}})


async def test_a_dry_run_asks_only_those_without_side_effects(
    registry: Any, server: WebhookServer
) -> None:
    await configure(registry, "Validating", hook("a", server.client(), sideEffects="NoneOnDryRun"))
    await registry.create(maps(), config_map(), WriteOptions(dry_run=True))
    await registry.create(maps(), config_map())
    await registry.delete(maps(), {"dryRun": ["All"]}, client())
    await registry.delete(maps(), {}, client())
    assert [one["dryRun"] for one in server.asked] == [True, False, True, False]


BROKEN: list[tuple[Object, str]] = [
    ({"raw": b"{"}, "received invalid webhook response"),
    ({"raw": b"{}"}, "received invalid webhook response: webhook response was absent"),
    ({"raw": b'{"response":{"uid":"other","allowed":true}}'}, "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got "),
    ({"answer": lambda _: {"uid": "other"}}, 'expected response.uid="'),
    ({"answer": lambda _: {"allowed": "yes"}}, "response.allowed or response.status is of a wrong type"),
    ({"answer": lambda _: {"patch": []}}, "validating webhook may not return response.patch"),
    ({"status": 500}, "failed to call webhook: the server responded with the status code 500"),
    ({"raw": b" " * (calling.MAX_ANSWER + 1)}, "the answer is larger than"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "why"), BROKEN)
async def test_what_cannot_be_asked_stops_a_write_or_does_not(
    registry: Any, server: WebhookServer, how: Object, why: str
) -> None:
    for name, value in how.items():
        setattr(server, name, value)
    await configure(registry, "Validating", hook("a", server.client()), name="strict")
    with pytest.raises(ApiError) as caught:
        await registry.create(maps(), config_map())
    error = caught.value
    assert (error.code, error.reason) == (500, "InternalError")
    assert str(error).startswith(
        'Internal error occurred: failed calling webhook "a.example.com": '
    )
    assert why in str(error)
    await registry.delete(ObjectKey(GROUP, "validatingwebhookconfigurations", "", "strict"), {})
    lenient = hook("a", server.client(), failurePolicy="Ignore")
    await configure(registry, "Validating", lenient)
    await registry.create(maps(), config_map())


async def test_the_log_tells_once_of_a_webhook_that_need_not_be_asked(
    registry: Any, server: WebhookServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = 503
    lenient = hook("a", server.client(), failurePolicy="Ignore")
    await configure(registry, "Validating", lenient)
    for name in ("one", "two", "three"):
        await registry.create(maps(name), config_map(name))
    told = [one for one in caplog.records if "goes on without its webhook" in one.message]
    assert (len(server.asked), len(told)) == (3, 1)


async def test_an_answer_that_comes_too_late_is_none(registry: Any, server: WebhookServer) -> None:
    server.pause = 3.0
    await configure(registry, "Validating", hook("a", server.client(), timeoutSeconds=1))
    with pytest.raises(ApiError, match="context deadline exceeded"):
        await registry.create(maps(), config_map())


async def test_only_the_right_certificate_is_believed(
    registry: Any, server: WebhookServer, tmp_path: Path
) -> None:
    wrong_name = {**server.client(), "url": f"https://127.0.0.1:{server.port}/"}
    await configure(registry, "Validating", hook("a", wrong_name), name="a")
    with pytest.raises(ApiError, match="certificate"):
        await registry.create(maps(), config_map())
    await registry.delete(ObjectKey(GROUP, "validatingwebhookconfigurations", "", "a"), {})
    other = tmp_path / "other"
    other.mkdir()
    with webhook_server(other) as stranger:
        forged = {**server.client(), "caBundle": stranger.ca}
        await configure(registry, "Validating", hook("a", forged), name="b")
        with pytest.raises(ApiError, match="certificate"):
            await registry.create(maps(), config_map())
    assert server.asked == []


async def test_a_service_is_reached_at_its_endpoints(registry: Any, server: WebhookServer) -> None:
    service = {"service": {"name": "hook", "namespace": "default", "path": "/s"}}
    in_cluster = {**service, "caBundle": server.ca}
    await configure(registry, "Validating", hook("a", in_cluster))
    url = 'Post "https://hook.default.svc:443/s?timeout=10s"'

    async def refused() -> str:
        with pytest.raises(ApiError) as caught:
            await registry.create(maps(), config_map())
        return str(caught.value)

    assert f'{url}: service "hook" not found' in await refused()
    spec = {"ports": [{"name": "tls", "port": 443, "targetPort": server.port}]}
    key = ObjectKey("", "services", "default", "hook")
    await registry.create(key, {"metadata": {"name": "hook"}, "spec": spec})
    assert f'{url}: no endpoints available for service "hook"' in await refused()
    labels = {"kubernetes.io/service-name": "hook"}
    found = {
        "metadata": {"name": "hook-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["127.0.0.9"], "conditions": {"ready": False}},
            {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
        ],
        "ports": [{"name": "tls", "port": server.port, "protocol": "TCP"}],
    }
    key = ObjectKey("discovery.k8s.io", "endpointslices", "default", "hook-1")
    registry.store.commit_now([put(key, orjson.dumps(found))])
    await registry.create(maps(), config_map())
    assert server.asked[0]["path"] == "/s?timeout=10s"


async def test_the_scale_of_a_workload_is_shown_as_such(
    registry: Any, server: WebhookServer
) -> None:
    scales = hook("a", server.client(), rules=[rule("deployments/scale", "UPDATE", group="apps")])
    await configure(registry, "Mutating", scales)
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "a", "image": "i"}]},
    }
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    key = ObjectKey("apps", "deployments", "default", "web")
    await registry.create(key, {"metadata": {"name": "web"}, "spec": spec})
    server.answer = lambda _: {"patch": [{"op": "replace", "path": "/spec/replicas", "value": 3}]}
    made = await registry.scale(key, lambda _: 7)
    assert made["spec"]["replicas"] == 3
    (asked,) = server.asked
    assert (asked["kind"]["kind"], asked["subResource"]) == ("Scale", "scale")
    assert asked["object"]["spec"]["replicas"] == 7


async def test_changes_of_a_status_are_shown_to_those_who_want_them(
    registry: Any, server: WebhookServer
) -> None:
    key = ObjectKey("", "namespaces", "", "default")
    only = [rule("namespaces/status", "UPDATE")]
    await configure(registry, "Mutating", hook("a", server.client(), rules=only))
    await registry.patch(key, {"metadata": {"labels": {"a": "b"}}})
    assert server.asked == []
    patch = [
        {"op": "add", "path": "/status/conditions", "value": []},
        {"op": "add", "path": "/metadata/labels/forged", "value": "yes"},
    ]
    server.answer = lambda _: {"patch": patch}
    made = await registry.patch(key, {"status": {"phase": "Active"}}, subresource="status")
    assert made["status"] == {"phase": "Active", "conditions": []}
    stored = registry.get(key)
    assert stored["status"] == made["status"]
    assert "forged" not in stored["metadata"]["labels"]
    (asked,) = server.asked
    assert (asked["subResource"], asked["oldObject"]["metadata"]["name"]) == ("status", "default")
    server.answer = lambda _: {"allowed": False}
    with pytest.raises(Forbidden):
        await registry.patch(key, {"status": {"phase": "Terminating"}}, subresource="status")


async def test_bindings_and_evictions_are_shown_as_what_they_are(
    registry: Any, server: WebhookServer
) -> None:
    both = [rule("pods/binding", "CREATE"), rule("pods/eviction", "CREATE")]
    await configure(registry, "Validating", hook("a", server.client(), rules=both))
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    key = ObjectKey("", "pods", "default", "p")
    await registry.create(key, body)
    server.answer = lambda _: {"allowed": False}
    with pytest.raises(Forbidden):
        await registry.bind("default", "p", "n1")
    with pytest.raises(Forbidden):
        await registry.show(key, "eviction", {"metadata": {"name": "p"}}, client())
    assert "nodeName" not in registry.get(key)["spec"]
    binding, eviction = server.asked
    assert (binding["kind"]["kind"], binding["subResource"]) == ("Binding", "binding")
    assert binding["object"]["target"] == {"kind": "Node", "name": "n1"}
    assert eviction["kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert eviction["object"]["apiVersion"] == "policy/v1"
    assert (eviction["name"], eviction["userInfo"]["username"]) == ("p", "somebody")


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"name": "short"}, "name", "should be a domain with at least three segments separated by dots"),
        ({"sideEffects": "Some"}, "sideEffects", 'Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'),
        ({"timeoutSeconds": 31}, "timeoutSeconds", "the timeout value must be between 1 and 30 seconds"),
        ({"admissionReviewVersions": ["v2"]}, "admissionReviewVersions", "must include at least one of v1, v1beta1"),
        ({"admissionReviewVersions": []}, "admissionReviewVersions", "Required value: must specify one of v1, v1beta1"),
        ({"clientConfig": {}}, "clientConfig", "Required value: exactly one of url or service is required"),
        ({"clientConfig": {"url": "http://a.b/"}}, "clientConfig.url", "'https' is the only allowed URL scheme; desired format: https://host[/path]"),
        ({"clientConfig": {"url": "https://u@a.b/"}}, "clientConfig.url", "user information is not permitted in the URL"),
        ({"clientConfig": {"service": {"name": "a"}}}, "clientConfig.service.namespace", "Required value: service namespace is required"),
        ({"rules": [{**rule(), "operations": ["*", "CREATE"]}]}, "rules[0].operations", "if '*' is present, must not specify other operations"),
        ({"rules": [{**rule(), "operations": ["READ"]}]}, "rules[0].operations[0]", 'Unsupported value: "READ"'),
        ({"rules": [{**rule(), "resources": ["*", "pods"]}]}, "rules[0].resources", "if '*' is present, must not specify other resources without subresources"),
        ({"rules": [{**rule(), "resources": ["pods/*", "pods/status"]}]}, "rules[0].resources[1]", "if 'pods/*' is present, must not specify pods/status"),
        ({"matchConditions": [{"name": "a", "expression": "true"}]}, "matchConditions", "Forbidden: match conditions are not served here"),
    ],
)  # fmt: skip
async def test_configurations_that_mean_nothing_are_refused(
    registry: Any, change: Object, field: str, text: str
) -> None:
    given = {**hook("a", {"url": "https://localhost/"}), **change}
    with pytest.raises(Invalid) as caught:
        await configure(registry, "Mutating", given)
    found = [(one["field"], one["message"]) for one in (caught.value.details or {})["causes"]]
    assert any(at == f"webhooks[0].{field}" and text in message for at, message in found), found


async def test_defaults_of_configurations(registry: Any) -> None:
    await configure(registry, "Mutating", hook("a", {"service": {"name": "s", "namespace": "n"}}))
    stored = registry.get(ObjectKey(GROUP, "mutatingwebhookconfigurations", "", "hooks"))
    (made,) = stored["webhooks"]
    assert made["failurePolicy"] == "Fail"
    assert (made["matchPolicy"], made["reinvocationPolicy"], made["timeoutSeconds"]) == (
        "Equivalent",
        "Never",
        10,
    )
    assert (made["namespaceSelector"], made["objectSelector"]) == ({}, {})
    assert made["clientConfig"]["service"]["port"] == 443
    assert made["rules"][0]["scope"] == "*"
    assert stored["metadata"]["generation"] == 1


async def test_a_patch_has_nothing_to_change_in_a_delete(
    registry: Any, server: WebhookServer
) -> None:
    await configure(
        registry, "Mutating", hook("a", server.client(), rules=[rule("configmaps", "DELETE")])
    )
    await registry.create(maps(), config_map())
    server.answer = lambda _: {"patch": [{"op": "add", "path": "/data", "value": {}}]}
    with pytest.raises(ApiError, match="attempted to modify the object, which is not supported"):
        await registry.delete(maps(), {})


async def test_side_effects_are_not_for_dry_runs(registry: Any, server: WebhookServer) -> None:
    """Such configurations are not accepted any more; a store may hold an old one."""
    key = ObjectKey(GROUP, "validatingwebhookconfigurations", "", "old")
    old = hook("a", server.client(), sideEffects="Some")
    body = {"metadata": {"name": "old"}, "webhooks": [old]}
    registry.store.commit_now([put(key, orjson.dumps(body))])
    await configure(registry, "Validating", hook("b", server.client(), rules=[rule("secrets")]))
    with pytest.raises(BadRequest) as caught:
        await registry.create(maps(), config_map(), WriteOptions(dry_run=True))
    assert str(caught.value) == 'admission webhook "a.example.com" does not support dry run'
    await registry.create(maps(), config_map())
