# SPDX-License-Identifier: Apache-2.0
"""Stock kubectl in a pod, command by command: what each says with a link, and what without."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rig.inpod import InPod, answers_as, curl, grant
from tests.rig.kubectl import fetched, newer
from tests.rig.pods import pod
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AWAY = r"only the cloud can answer this: this node has no link to its cloud"
BARE = "the server is currently unable to handle the request"
"""What kubectl makes of the same 503 when it wanted OpenAPI, which it asks for before some writes."""
GRANTED = (
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
    {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["get", "list"]},
)
OF_CLUSTER = (
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
)


@dataclass(frozen=True)
class Row:
    """One command.

    Attributes:
        words: for kubectl.
        online: what its output matches.
        offline: the same without a link; the same as online when empty.
        code: of its exit, online.
        code_offline: of its exit, offline.
        since: the first kubectl (1.X) that has the command.
    """

    words: str
    online: str
    offline: str = ""
    code: int = 0
    code_offline: int | None = None
    since: int = 0


def needs_cloud(words: str, online: str, why: str = AWAY, since: int = 0) -> Row:
    return Row(words, online, why, code_offline=1, since=since)


CONFIG = "create configmap made --from-literal=a=b"
TABLE = (
    Row("version", r"Server Version.*1\."),
    Row("api-resources", r"(?s)pods .*deployments "),
    Row("api-versions", r"(?s)apps/v1.*v1"),
    Row("get pods", r"client +1/1 +Running +0"),
    Row("get pods -o wide", r"client .* edge-1 "),
    Row("get pods -o name", "pod/client"),
    Row("get pods --chunk-size=1", r"(?s)client.*second"),
    Row("get pods --all-namespaces", r"default +client"),
    Row("get pods -l app=sleep --field-selector=status.phase=Running", "client"),
    Row("get pods -l app=other", "No resources found"),
    Row("get pods --show-labels --sort-by=.metadata.name", "app=sleep"),
    Row("get pod client -o yaml", r"(?s)kind: Pod.*phase: Running"),
    Row("get pods,configmaps", r"(?s)pod/client.*configmap/shared"),
    Row("get configmap shared -o jsonpath={.data.n}", "0"),
    Row("get configmap absent", "not found", AWAY, 1, 1),
    Row("get nodes", r"edge-1 +Ready"),
    Row("get secrets", "forbidden", code=1, code_offline=1),
    Row("describe pod client", r"(?s)Node: +edge-1.*Status: +Running.*Events:"),
    Row("describe node edge-1", r"(?s)Kubelet Version: +v1.*default +client"),
    Row("describe configmap shared", r"(?s)Name: +shared.*Data"),
    Row("get events", r"Started", "this is what the node knows by itself, without the cloud"),
    Row("wait --for=condition=Ready pod/client --timeout=20s", "condition met"),
    Row("logs client", "^$"),
    Row("exec client -- echo from the pod", "from the pod"),
    Row("top pods", r"client +\d+m"),
    Row("auth can-i list pods", "yes"),
    Row("auth can-i list pods --subresource=log", "no", "no - by no role, as of when", 1, 1),
    Row("auth can-i delete nodes", "no", "no - by no role, as of when", 1, 1),
    Row("auth can-i get /version", "yes"),
    Row("auth can-i --list", r"(?s)pods .*\[get list watch", r"(?s)\[get list watch.*as of when"),
    Row("auth whoami", r"system:serviceaccount:default:default", since=28),
    Row("get --raw /healthz", "ok"),
    Row("get --raw /readyz", "ok"),
    Row("get --raw /apis/apps/v1", "deployments"),
    needs_cloud("get --raw /openapi/v2", "swagger"),
    needs_cloud("explain pods", r"VERSION: +v1", BARE),
    needs_cloud("get deployments", "No resources found"),
    needs_cloud(CONFIG + " --dry-run=server", "server dry run", f"{AWAY}|{BARE}"),
    needs_cloud(CONFIG, "configmap/made created"),
    needs_cloud("label pod client a=b --overwrite", "labeled|not labeled"),
    needs_cloud("annotate pod client a=b --overwrite", "annotated|not annotated"),
    needs_cloud('patch pod client -p {"metadata":{"labels":{"p":"q"}}}', "patched"),
    needs_cloud("delete configmap made", "deleted"),
    Row("delete pod client --dry-run=server", "forbidden", f"{AWAY}|{BARE}", 1, 1),
    needs_cloud("apply --server-side -f FILE", "configmap/applied serverside-applied", f"{AWAY}|{BARE}"),
    needs_cloud("apply -f FILE", "configmap/applied (created|unchanged|configured)", BARE),
)  # fmt: skip


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("kubectl") as one:
        deleting = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]}
        grant(one, *GRANTED, deleting, of_cluster=OF_CLUSTER)
        config_map = {"metadata": {"name": "shared"}, "data": {"n": "0"}}
        one.api.create("/api/v1/namespaces/default/configmaps", config_map)
        for name in ("client", "second"):
            found = pod(name, one.node_name, config_map="shared")
            one.api.create("/api/v1/namespaces/default/pods", found)
        text = (
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied"},"data":{"a":"b"}}'
        )
        (one.directory / "applied.json").write_text(text)
        yield one


@pytest.fixture(scope="module")
def inside(system: System) -> InPod:
    found = InPod(system.containerd, system.edge_dir, "client")
    InPod(system.containerd, system.edge_dir, "second")
    url = found.url("/api/v1/namespaces/default/pods")
    wait_until(lambda: answers_as(url, found.token), 20, "the node knows what its pod may do")
    return found


@pytest.fixture(scope="module", params=["online", "offline"])
def link(request: pytest.FixtureRequest, system: System, inside: InPod) -> Iterator[str]:
    if request.param == "online":
        yield "online"
        return
    with system.offline():
        yield "offline"


def program_of(which: str) -> tuple[str, int]:
    program = newer() if which == "current" else fetched("debian")
    done = subprocess.run(
        [program, "version", "--client"], capture_output=True, text=True, check=False
    )
    found = re.search(r'v1\.(\d+)\.|Minor:"(\d+)', done.stdout)
    assert found is not None, done.stdout
    return program, int(found[1] or found[2])


def test_lists_are_paged_and_watches_begin_with_what_is_there(inside: InPod, link: str) -> None:
    def get(query: str) -> Any:
        code, body = curl(inside.url(f"/api/v1/namespaces/default/pods?{query}"), inside.token)
        assert code == 200, body
        return json.loads(body)

    first = get("limit=1")
    version, token = first["metadata"]["resourceVersion"], first["metadata"]["continue"]
    second = get(f"limit=1&continue={token}")
    assert second["metadata"]["resourceVersion"] == version
    names = [page["items"][0]["metadata"]["name"] for page in (first, second)]
    assert names == ["client", "second"]
    exactly = get(f"resourceVersion={version}&resourceVersionMatch=Exact")
    assert exactly["metadata"]["resourceVersion"] == version
    assert len(get(f"resourceVersion={version}&resourceVersionMatch=NotOlderThan")["items"]) == 2
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    url = inside.url(
        f"/api/v1/namespaces/default/pods?{query}&allowWatchBookmarks=true&timeoutSeconds=2"
    )
    lines = [json.loads(line) for line in curl(url, inside.token)[1].splitlines()]
    assert [one["type"] for one in lines[:3]] == ["ADDED", "ADDED", "BOOKMARK"]
    marks = lines[2]["object"]["metadata"]["annotations"]
    assert marks["k8s.io/initial-events-end"] == "true"


@pytest.mark.parametrize("which", ["debian", "current"])
def test_every_command_says_what_is_so(
    system: System, inside: InPod, link: str, which: str
) -> None:
    program, minor = program_of(which)
    home = system.directory / f"home-{which}-{link}"
    home.mkdir()
    wrong = []
    for row in TABLE:
        if minor < row.since:
            continue
        words = [
            str(system.directory / "applied.json") if one == "FILE" else one
            for one in row.words.split(" ")
        ]
        process = inside.start(program, "-n", "default", *words, HOME=str(home))
        out, errors = process.communicate(timeout=60)
        code, wanted = row.code, row.online
        if link == "offline":
            wanted = row.offline or row.online
            code = row.code if row.code_offline is None else row.code_offline
        if process.returncode != code or not re.search(wanted, out + errors):
            wrong.append(
                f"{row.words}: wanted {code} {wanted!r}, got {process.returncode}: {out[:2000]}{errors[:2000]}"
            )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("which", ["debian", "current"])
def test_a_watch_shows_what_is_there_and_stays(inside: InPod, link: str, which: str) -> None:
    program, _ = program_of(which)
    watch = inside.start(program, "-n", "default", "get", "pods", "-w", "--output-watch-events")
    try:
        assert watch.stdout is not None
        lines = [watch.stdout.readline() for _ in range(3)]
        assert [line.split()[:2] for line in lines[1:]] == [
            ["ADDED", "client"],
            ["ADDED", "second"],
        ]
        assert watch.poll() is None
    finally:
        watch.kill()
        watch.communicate()
