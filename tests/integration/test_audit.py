# SPDX-License-Identifier: Apache-2.0
"""The audit log of a running cluster: what is in it of reads, writes, watches and refusals, and what is not."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.rig import control
from tests.rig.api import Api, Failed
from tests.rig.processes import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)

NS = "/api/v1/namespaces/default"
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  users: [kedge-cloud]
- level: Metadata
  resources: [{group: "", resources: [secrets, serviceaccounts/token]}]
  omitStages: [RequestReceived]
- level: RequestResponse
  resources: [{group: "", resources: [configmaps]}]
  omitStages: [RequestReceived]
- level: Metadata
  resources: [{group: "", resources: [pods, nodes]}]
- level: Metadata
  nonResourceURLs: [/apis, /healthz]
  omitStages: [RequestReceived]
"""
SECRET = "c2VjcmV0LXRoaW5n"


@contextmanager
def audited(directory: Path, *words: str) -> Iterator[tuple[Api, Path]]:
    """A cluster with an audit log: an admin's client, and the file."""
    policy = directory / "policy.yaml"
    policy.write_text(POLICY)
    with control.cluster(directory, "--audit-policy-file", str(policy), *words) as kubeconfig:
        api = Api(kubeconfig)
        yield api, directory / "data" / "audit.log"
        api.close()


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def about(path: Path, **wanted: str) -> list[dict[str, Any]]:
    """The events with such fields, of the event itself or of its object."""
    return [
        one
        for one in events(path)
        if all(
            one.get(name) == value or one.get("objectRef", {}).get(name) == value
            for name, value in wanted.items()
        )
    ]


def only(path: Path, **wanted: str) -> dict[str, Any]:
    """The one event like that, once it is there."""
    wait_until(lambda: len(about(path, **wanted)) == 1, 5, f"one event with {wanted}")
    return about(path, **wanted)[0]


def test_writes_and_reads_are_written_down_as_far_as_the_policy_says(tmp_path: Path) -> None:
    with audited(tmp_path) as (api, path):
        made = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
        api.create(f"{NS}/configmaps", {**made, "data": {"colour": "blue"}})
        event = only(path, resource="configmaps", verb="create")
        assert (event["kind"], event["apiVersion"]) == ("Event", "audit.k8s.io/v1")
        assert (event["level"], event["stage"]) == ("RequestResponse", "ResponseComplete")
        assert event["requestURI"] == f"{NS}/configmaps"
        assert event["user"]["username"] == "kubernetes-admin"
        assert event["user"]["groups"] == ["system:masters", "system:authenticated"]
        assert event["sourceIPs"] == ["127.0.0.1"]
        assert event["responseStatus"] == {"metadata": {}, "code": 201}
        assert event["requestObject"]["data"] == {"colour": "blue"}
        assert event["responseObject"]["metadata"]["uid"]
        assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
        api.get(f"{NS}/configmaps/a")
        event = only(path, resource="configmaps", verb="get", name="a")
        assert event["responseObject"]["data"] == {"colour": "blue"}
        api.get(f"{NS}/configmaps?limit=1")
        listed = only(path, verb="list", requestURI=f"{NS}/configmaps?limit=1")
        assert len(listed["responseObject"]["items"]) == 1
        secret = {"metadata": {"name": "s"}, "data": {"x": SECRET}}
        api.create(f"{NS}/secrets", secret)
        api.get(f"{NS}/secrets/s")
        assert only(path, resource="secrets", verb="get")["level"] == "Metadata"
        assert only(path, resource="secrets", verb="create")["level"] == "Metadata"
        with pytest.raises(Failed, match="404"):
            api.get(f"{NS}/pods/none")
        received, complete = about(path, resource="pods", name="none")
        assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
        assert "responseStatus" not in received
        assert received["auditID"] == complete["auditID"]
        assert complete["responseStatus"]["code"] == 404
        assert complete["responseStatus"]["message"] == 'pods "none" not found'
        api.get("/apis")
        assert "objectRef" not in only(path, requestURI="/apis", verb="get")
        api.get("/api/v1/namespaces")
        assert about(path, resource="namespaces") == []
        assert SECRET not in path.read_text()
        assert {one["user"].get("username") for one in events(path)} == {"kubernetes-admin"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_watch_is_written_down_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    with audited(tmp_path) as (api, path):
        connection = api.connect()
        connection.connect()
        uri = "/api/v1/nodes?watch=true&timeoutSeconds=60"
        connection.request("GET", uri, headers={"Audit-ID": "mine"})
        answer = connection.getresponse()
        assert answer.getheader("Audit-Id") == "mine"
        started = only(path, auditID="mine", stage="ResponseStarted")
        assert started["verb"] == "watch"
        assert about(path, auditID="mine", stage="ResponseComplete") == []
        connection.sock.shutdown(socket.SHUT_RDWR)
        answer.close()
        connection.close()
        only(path, auditID="mine", stage="ResponseComplete")


def test_who_is_not_known_or_may_not_is_written_down(tmp_path: Path) -> None:
    with audited(tmp_path) as (api, path):
        api.create(f"{NS}/serviceaccounts", {"metadata": {"name": "robot"}})
        token = api.create(f"{NS}/serviceaccounts/robot/token", {"spec": {}})["status"]["token"]
        for word, code in ((token, 403), ("nonsense", 401)):
            connection = anonymous(api)
            headers = {"Authorization": f"Bearer {word}", "Audit-ID": f"a{code}"}
            connection.request("GET", f"{NS}/pods", headers=headers)
            assert connection.getresponse().status == code
            connection.close()
        refused = only(path, auditID="a403", stage="ResponseComplete")
        assert refused["user"]["username"] == "system:serviceaccount:default:robot"
        assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
        unknown = only(path, auditID="a401", stage="ResponseComplete")
        assert unknown["user"] == {}
        assert unknown["responseStatus"]["code"] == 401
        assert token not in path.read_text()


def anonymous(api: Api) -> Any:
    """A connection without the admin's certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    where = api.credentials
    return http.client.HTTPSConnection(where.host, where.port, context=context, timeout=20)


def test_full_files_are_set_aside_and_only_so_many_kept(tmp_path: Path) -> None:
    words = ("--audit-log-max-size", "1", "--audit-log-max-backup", "1")
    with audited(tmp_path, *words) as (api, path):
        body = {"metadata": {"name": "large"}, "data": {"x": "y" * 300_000}}
        api.create(f"{NS}/configmaps", body)
        for _ in range(10):
            api.get(f"{NS}/configmaps/large")
        kept = list(path.parent.glob("audit-*.log"))
        assert len(kept) == 1
        assert all(one.stat().st_size <= 1_000_000 for one in [path, *kept])
        assert events(kept[0])


def test_a_policy_that_is_not_understood_keeps_the_cluster_from_starting(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]\n")
    words = ["-m", "kedge.cluster", "--data-dir", str(tmp_path / "data"), "--listen"]
    words += ["127.0.0.1:0", "--audit-policy-file", str(policy)]
    process = Process(words, log=tmp_path / "log")
    try:
        wait_until(lambda: not process.is_running(), 20, "the cluster ends")
    finally:
        process.stop()
    assert 'rules[0].level: Unsupported value: "All"' in (tmp_path / "log").read_text()


def test_who_acts_as_somebody_else_is_written_down_with_both(tmp_path: Path) -> None:
    with audited(tmp_path) as (api, path):
        connection = api.connect()
        headers = {"Impersonate-User": "jane", "Audit-ID": "as-jane"}
        connection.request("GET", f"{NS}/pods", headers=headers)
        assert connection.getresponse().status == 403
        connection.close()
        event = only(path, auditID="as-jane", stage="ResponseComplete")
        assert event["user"]["username"] == "kubernetes-admin"
        assert event["impersonatedUser"]["username"] == "jane"
