# SPDX-License-Identifier: Apache-2.0
"""Who gets in, and what each may do."""

from __future__ import annotations

import http.client
import ssl
import time
from typing import Any

import pytest

from kedge.hub import certificates
from tests.integration.kubeapi.conftest import ISSUER, TOKEN, Api, pod

ACCOUNT = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "robot", "namespace": "default", "uid": "uid-robot"},
}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": "system:serviceaccount:default:robot",
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "kubernetes.io": {
            "namespace": "default",
            "serviceaccount": {"name": "robot", "uid": "uid-robot"},
        },
        **changes,
    }


def bound_to(name: str, uid: str) -> dict[str, Any]:
    bound = {**claims()["kubernetes.io"], "pod": {"name": name, "uid": uid}}
    return claims(**{"kubernetes.io": bound})


def status_with(api: Api, token: str, path: str = "/api") -> int:
    api.server.set_document("/api", "application/json", b"{}")
    return api.get(path, client="", Authorization=f"Bearer {token}").status


def token_of(api: Api, what: dict[str, Any], key: str = "") -> str:
    return certificates.jwt_sign(key or api.keys.tokens, what)


def test_nobody_unknown_gets_past_health_and_version(api: Api) -> None:
    api.server.set_document("/api", "application/json", b"{}")
    for path in ("/api", "/api/v1/pods", "/api/v1/pods?watch=1", "/nothing", "/openapi/v2"):
        answer = api.get(path, client="")
        assert (answer.status, answer.json["reason"]) == (401, "Unauthorized"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_certificate_of_another_authority_is_no_connection(api: Api) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        api.get("/healthz", client="stranger")


def test_the_servers_certificate_is_checked_against_its_authority(api: Api) -> None:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", api.port, context=ssl.create_default_context(), timeout=10
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/healthz")
    connection.close()


def test_the_cloud_may_read_and_report_but_not_rule(api: Api) -> None:
    api.put(pod("a"))
    assert api.get("/api/v1/pods", client="cloud").status == 200
    assert api.get("/api/v1/pods?watch=1&timeoutSeconds=1", client="cloud").status == 200
    for method, path in (
        ("DELETE", "/api/v1/namespaces/default"),
        ("DELETE", "/api/v1/nodes"),
        ("POST", "/apis/apps/v1/namespaces/default/deployments"),
        ("PUT", "/api/v1/namespaces/default/secrets/s"),
        ("GET", "/apis/apps/v1/deployments"),
        ("GET", "/metrics"),
    ):
        answer = api.request(method, path, b"{}" if method != "GET" else None, client="cloud")
        assert (answer.status, answer.json["reason"]) == (403, "Forbidden"), path
        assert "kedge-cloud" in answer.json["message"]
    assert api.asked == [], "nothing refused reaches Python"


def test_a_static_token_stands_for_its_user(api: Api) -> None:
    assert status_with(api, TOKEN) == 200
    assert status_with(api, TOKEN[:-1]) == 401
    assert api.get("/api", client="", Authorization=f"Basic {TOKEN}").status == 401


def test_a_service_account_token_holds_while_its_account_exists(api: Api) -> None:
    token = token_of(api, claims())
    assert status_with(api, token) == 401
    api.put(ACCOUNT)
    assert status_with(api, token) == 200
    assert status_with(api, token, "/api/v1/pods") == 403
    api.put({**ACCOUNT, "metadata": {**ACCOUNT["metadata"], "uid": "uid-another"}})
    assert status_with(api, token) == 401


def test_a_token_bound_to_a_pod_ends_with_the_pod(api: Api) -> None:
    api.put(ACCOUNT)
    token = token_of(api, bound_to("a", "uid-a"))
    assert status_with(api, token) == 401
    api.put(pod("a"))
    assert status_with(api, token) == 200
    api.delete(pod("a"))
    assert status_with(api, token) == 401


def test_a_token_that_does_not_hold_is_refused(api: Api) -> None:
    api.put(ACCOUNT)
    now = int(time.time())
    for what in (
        claims(exp=now - 1),
        claims(nbf=now + 60),
        claims(aud=["another"]),
        claims(iss="another"),
        claims(sub="system:serviceaccount:default:another"),
        {"iss": ISSUER, "aud": [ISSUER], "exp": now + 60},
    ):
        assert status_with(api, token_of(api, what)) == 401, what
    assert status_with(api, token_of(api, claims(), certificates.new_key())) == 401
    good = token_of(api, claims())
    assert status_with(api, good[:-8] + "AAAAAAAA") == 401
    assert status_with(api, "x" * 20_000) == 401
    assert status_with(api, good) == 200


def test_an_expired_token_is_refused_although_it_was_seen_while_it_held(api: Api) -> None:
    api.put(ACCOUNT)
    end = int(time.time()) + 3
    token = token_of(api, claims(exp=end))
    assert status_with(api, token) == 200
    time.sleep(max(0.0, end + 0.1 - time.time()))
    assert status_with(api, token) == 401


def test_who_may_impersonate_has_the_others_rights(api: Api) -> None:
    answer = api.get("/api/v1/pods", Impersonate_User="somebody")
    assert (answer.status, answer.json["reason"]) == (403, "Forbidden")
    assert 'User "somebody" cannot list resource "pods"' in answer.json["message"]
    boss = api.get("/api/v1/pods", Impersonate_User="somebody", Impersonate_Group="system:masters")
    assert boss.status == 200
    answer = api.get("/api/v1/pods", client="cloud", Impersonate_User="kubernetes-admin")
    assert answer.status == 403
    refused = 'cannot impersonate resource "users" in API group "" at the cluster scope'
    assert refused in answer.json["message"]
    account = "system:serviceaccount:default:robot"
    answer = api.get("/api/v1/pods", client="cloud", Impersonate_User=account)
    assert 'cannot impersonate resource "serviceaccounts"' in answer.json["message"]
    assert 'in the namespace "default"' in answer.json["message"]
