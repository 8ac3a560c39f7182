# SPDX-License-Identifier: Apache-2.0
"""Reading, changing and writing back through a node: versions of the node mean what they do upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.inpod import InPod, curl, grant
from tests.rig.pods import pod
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NODES = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "update", "patch"]}
DELETING = {"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["delete"]}
LEASES = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "verbs": ["get", "create", "update"],
}
OWN = """
def own(obj):
    return int(obj.metadata.resource_version) > 1 << 40
def loop(change):
    while True:
        try:
            return change()
        except ApiException as error:
            if error.status != 409:
                raise
            time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("writes") as one:
        grant(one, DELETING, LEASES, of_cluster=(NODES,))
        config_map = {"metadata": {"name": "shared"}, "data": {"n": "0"}}
        one.api.create("/api/v1/namespaces/default/configmaps", config_map)
        one.api.create(
            "/api/v1/namespaces/default/pods", pod("client", one.node_name, config_map="shared")
        )
        yield one


@pytest.fixture(scope="module")
def inside(system: System) -> InPod:
    found = InPod(system.containerd, system.edge_dir, "client")
    url = found.url("/api/v1/namespaces/default/configmaps/shared")
    wait_until(lambda: curl(url, found.token)[0] == 200, 20, "the node knows what its pod may do")
    return found


def shown(inside: InPod, program: str, *words: str) -> list[Any]:
    return [json.loads(line) for line in inside.python(OWN + program, *words).splitlines()]


@pytest.mark.parametrize("kind", ["config_map", "pod", "node"])
def test_what_was_read_is_changed_and_replaced_and_read_again(
    system: System, inside: InPod, kind: str
) -> None:
    name = {"config_map": "shared", "pod": "client", "node": system.node_name}[kind]
    program = """
kind, name = sys.argv[1:]
scope = [] if kind == "node" else ["default"]
middle = "" if kind == "node" else "namespaced_"
read = lambda: getattr(core, f"read_{middle}{kind}")(name, *scope)
replace = lambda obj: getattr(core, f"replace_{middle}{kind}")(name, *scope, obj)
for n in range(5):
    def change():
        obj = read()
        obj.metadata.labels = (obj.metadata.labels or {}) | {"n": str(n)}
        return obj, replace(obj)
    before, done = loop(change)
    after = read()
    show([own(before), own(done), done.metadata.labels["n"], after.metadata.labels["n"],
          int(before.metadata.resource_version) < int(done.metadata.resource_version)
          <= int(after.metadata.resource_version)])
"""
    found = shown(inside, program, kind, name)
    assert found == [[True, True, str(n), str(n), True] for n in range(5)]


@pytest.mark.parametrize("kind", ["config_map", "pod"])
def test_what_changed_meanwhile_is_a_conflict_in_every_kind_of_write(
    inside: InPod, kind: str
) -> None:
    name = {"config_map": "shared", "pod": "client"}[kind]
    program = """
kind, name = sys.argv[1:]
of = lambda verb: getattr(core, f"{verb}_namespaced_{kind}")
stale = of("read")(name, "default")
def change():
    fresh = of("read")(name, "default")
    fresh.metadata.labels = (fresh.metadata.labels or {}) | {"changed": stale.metadata.resource_version}
    return of("replace")(name, "default", fresh)
loop(change)
version = stale.metadata.resource_version
patch = [{"op": "test", "path": "/metadata/resourceVersion", "value": version},
         {"op": "add", "path": "/metadata/labels/x", "value": "y"}]
only = kubernetes.client.V1Preconditions(resource_version=version)
for write in (
    lambda: of("replace")(name, "default", stale),
    lambda: of("patch")(name, "default", {"metadata": {"resourceVersion": version, "labels": {"x": "y"}}}),
    lambda: of("patch")(name, "default", patch),
    lambda: of("delete")(name, "default", body=kubernetes.client.V1DeleteOptions(preconditions=only)),
):
    try:
        write()
        show("written")
    except ApiException as error:
        body = json.loads(error.body)
        show([error.status, body["reason"], "modified" in body["message"]])
"""
    assert shown(inside, program, kind, name) == [[409, "Conflict", True]] * 4


def test_versions_in_patches_and_preconditions_hold_while_nothing_changed(
    system: System, inside: InPod
) -> None:
    program = """
def patched(body):
    def change():
        now = core.read_namespaced_pod("client", "default").metadata.resource_version
        return core.patch_namespaced_pod("client", "default", body(now))
    return loop(change).metadata.labels["p"]
show(patched(lambda now: {"metadata": {"resourceVersion": now, "labels": {"p": "1"}}}))
show(patched(lambda now: [{"op": "test", "path": "/metadata/resourceVersion", "value": now},
                          {"op": "replace", "path": "/metadata/labels/p", "value": "2"}]))
"""
    assert shown(inside, program) == ["1", "2"]
    mine = pod("short-lived", system.node_name)
    program = """
made = core.create_namespaced_pod("default", json.loads(sys.argv[1]))
show(own(made))
def remove():
    now = core.read_namespaced_pod("short-lived", "default").metadata.resource_version
    only = kubernetes.client.V1Preconditions(resource_version=now)
    return core.delete_namespaced_pod("short-lived", "default", body=kubernetes.client.V1DeleteOptions(
        preconditions=only, grace_period_seconds=0))
loop(remove)
try:
    show(core.read_namespaced_pod("short-lived", "default").metadata.name)
except ApiException as error:
    show(error.status)
"""
    assert shown(inside, program, json.dumps(mine)) == [True, 404]


def test_a_watch_goes_on_from_the_answer_to_a_write(system: System, inside: InPod) -> None:
    program = """
made = core.create_namespaced_pod("default", json.loads(sys.argv[1]))
show(own(made))
watch = kubernetes.watch.Watch()
for event in watch.stream(core.list_namespaced_pod, "default", field_selector="metadata.name=watched",
                          resource_version=made.metadata.resource_version, timeout_seconds=60):
    if event["object"].status.phase == "Running":
        break
show([event["type"], event["object"].status.phase])
changed = core.patch_namespaced_pod("watched", "default", {"metadata": {"labels": {"a": "b"}}})
for event in watch.stream(core.list_namespaced_pod, "default", field_selector="metadata.name=watched",
                          resource_version=made.metadata.resource_version, timeout_seconds=60):
    if (event["object"].metadata.labels or {}).get("a") == "b":
        break
show(int(event["object"].metadata.resource_version) <= int(changed.metadata.resource_version))
"""
    mine = pod("watched", system.node_name)
    found = shown(inside, program, json.dumps(mine))
    assert found == [True, ["MODIFIED", "Running"], True]
    system.api.delete("/api/v1/namespaces/default/pods/watched?gracePeriodSeconds=0")


def test_a_lease_is_taken_and_renewed_through_the_node_and_refused_at_once_without_a_link(
    system: System, inside: InPod
) -> None:
    program = """
leases = kubernetes.client.CoordinationV1Api()
made = leases.create_namespaced_lease("default", {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a"}})
stale = made.metadata.resource_version
for holder in ("b", "c"):
    made.spec.holder_identity = holder
    made = leases.replace_namespaced_lease("leader", "default", made)
show(leases.read_namespaced_lease("leader", "default").spec.holder_identity)
made.metadata.resource_version = stale
try:
    leases.replace_namespaced_lease("leader", "default", made)
except ApiException as error:
    show(error.status)
"""
    assert shown(inside, program) == ["c", 409]
    program = """
leases = kubernetes.client.CoordinationV1Api()
for ask in (
    lambda: leases.read_namespaced_lease("leader", "default"),
    lambda: leases.create_namespaced_lease("default", {"metadata": {"name": "another"}}),
    lambda: leases.replace_namespaced_lease("leader", "default", {"metadata": {"name": "leader"}}),
):
    try:
        ask()
    except ApiException as error:
        body = json.loads(error.body)
        show([error.status, body["reason"], "this node has no link to its cloud" in body["message"]])
"""
    with system.offline():
        assert shown(inside, program) == [[503, "ServiceUnavailable", True]] * 3
