# SPDX-License-Identifier: Apache-2.0
"""The agent with a real containerd and no cloud at all: its store is filled by the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import SERVE, container, is_ready, pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    with EdgeNode.temporary() as started:
        yield started


def restarts(node: EdgeNode, name: str) -> int:
    return int(node.pods().get(name, {}).get("restarts", -1))


def sleeper(name: str) -> dict[str, Any]:
    return pod(name, container("exec sleep 1000000"))


def test_containers_survive_a_killed_agent_and_come_back_after_a_reboot(node: EdgeNode) -> None:
    node.change(*[sleeper(f"web-{number}") for number in range(3)])
    node.start()
    node.wait(
        lambda: all(is_ready(node, f"web-{number}") for number in range(3)), "three pods are ready"
    )
    before = node.containerd.running_containers()
    node.kill()
    reports = node.reports("pods/status")
    node.start()
    node.wait(
        lambda: all(is_ready(node, f"web-{number}") for number in range(3)), "they are adopted"
    )
    assert node.containerd.running_containers() == before
    node.kill()
    assert node.reports("pods/status") == reports
    node.containerd.reboot()
    node.start()
    node.wait(lambda: len(node.containerd.running_containers()) == 3, "all are back", 30)
    node.wait(
        lambda: [restarts(node, f"web-{number}") for number in range(3)] == [1, 1, 1], "counted"
    )


def test_a_pod_gets_its_environment_files_and_order(node: EdgeNode) -> None:
    settings = {
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default"},
        "data": {"mode": "fast", "level": "7"},
    }
    secret = {
        "kind": "Secret",
        "metadata": {"name": "key", "namespace": "default"},
        "data": {"password": "czNjcmV0"},
    }
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "password"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {"name": "GREETING", "value": "hello $(NAME)"},
    ]
    script = (
        "echo $GREETING $mode $PASSWORD $LIMIT; cat /settings/level /key/password /work/first; echo;"
        " grep -c $IP /etc/hosts; hostname; id -u; exec sleep 1000000"
    )
    main = container(
        script,
        env=env,
        envFrom=[{"configMapRef": {"name": "settings"}}],
        resources={"limits": {"memory": "64Mi", "cpu": "500m"}},
        securityContext={"runAsUser": 1000},
        volumeMounts=[
            {"name": "settings", "mountPath": "/settings"},
            {"name": "key", "mountPath": "/key", "readOnly": True},
            {"name": "work", "mountPath": "/work"},
        ],
    )
    first = container(
        "echo -n first > /work/first",
        "first",
        volumeMounts=[{"name": "work", "mountPath": "/work"}],
    )
    wanted = pod(
        "web",
        main,
        initContainers=[first],
        volumes=[
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "key", "secret": {"secretName": "key"}},
            {"name": "work", "emptyDir": {}},
        ],
    )
    node.change(settings, secret, wanted)
    node.start()
    node.wait(lambda: is_ready(node, "web"), "it is ready")
    node.wait(lambda: node.log(wanted).count("\n") >= 5, "it has spoken")
    text = [line.split(" ", 3)[3] for line in node.log(wanted).splitlines()]
    assert text == ["hello web fast s3cret 67108864", "7s3cretfirst", "1", "web", "1000"]
    identity = node.containerd.running_containers()[0]
    # Not a glob: that fails when somebody else's cgroup goes while it looks.
    found = [root for root, _, _ in os.walk("/sys/fs/cgroup") if root.endswith(f"/{identity}")]
    assert found
    assert all(wanted["metadata"]["uid"] in root for root in found)


def test_probes_and_crashes_are_acted_on(node: EdgeNode) -> None:
    crashing = pod("crash", container("exit 3"))
    served = pod(
        "served",
        container(
            SERVE,
            readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            livenessProbe={
                "tcpSocket": {"port": 8080},
                "periodSeconds": 1,
                "initialDelaySeconds": 2,
            },
        ),
    )
    sick = pod(
        "sick",
        container(
            "touch /tmp/well; sleep 3; rm /tmp/well; exec sleep 1000000",
            livenessProbe={
                "exec": {"command": ["cat", "/tmp/well"]},
                "periodSeconds": 1,
                "failureThreshold": 1,
                "initialDelaySeconds": 1,
            },
        ),
    )
    done = pod("done", container("echo bye > /dev/termination-log; exit 0"), restartPolicy="Never")
    node.change(crashing, served, sick, done)
    node.start()
    node.wait(lambda: is_ready(node, "served"), "the server is ready")
    node.wait(
        lambda: node.pods().get("crash", {}).get("reason") == "CrashLoopBackOff",
        "the crash backs off",
    )
    node.wait(lambda: restarts(node, "sick") >= 1, "the sick one is restarted", 30)
    node.wait(lambda: node.pods().get("done", {}).get("phase") == "Succeeded", "the job is done")
    assert restarts(node, "served") == 0
    node.kill()
    statuses = node.reports("pods/status")
    ended = statuses["done"]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"].strip()) == (0, "bye")
    last = statuses["crash"]["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert last["exitCode"] == 3
    reasons = {one["reason"] for one in node.reports("events").values()}
    assert {"Pulled", "Created", "Started", "BackOff", "Unhealthy", "Killing"} <= reasons


def test_what_changed_while_the_agent_was_away_changes_once(node: EdgeNode) -> None:
    kept, dying, gone = sleeper("kept"), sleeper("dying"), sleeper("gone")
    node.change(kept, dying, gone)
    node.start()
    node.wait(
        lambda: all(is_ready(node, one) for one in ("kept", "dying", "gone")),
        "three pods are ready",
    )
    before = set(node.containerd.running_containers())
    metadata = dying["metadata"] | {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 0,
    }
    node.changed(dying | {"metadata": metadata}, deleted=(gone,))
    node.wait(lambda: len(node.containerd.all_containers()) == 2, "one pod is left", 30)
    node.wait(lambda: set(node.pods()) == {"kept", "dying"}, "the other two are gone")
    assert set(node.containerd.running_containers()) < before
    node.kill()
    assert set(node.reports("pods/deleted")) == {"dying"}
    assert sorted(one.name for one in (node.data / "pods").iterdir()) == [kept["metadata"]["uid"]]


def test_a_damaged_store_is_set_aside_and_containers_go_on(node: EdgeNode) -> None:
    node.change(sleeper("web"))
    node.start()
    node.wait(lambda: is_ready(node, "web"), "it is ready")
    before = node.containerd.running_containers()
    node.kill()
    for path in (node.data / "store").glob("*.mdb"):
        if "lock" not in path.name:
            path.write_bytes(b"scribbled" * 1000)
    node.start()
    node.wait(
        lambda: bool(node.status().get("store", {}).get("setAside")), "the store is set aside"
    )
    assert node.containerd.running_containers() == before
    node.kill()
    node.change(sleeper("web"))
    node.start()
    node.wait(lambda: is_ready(node, "web"), "the refilled pod is adopted")
    assert node.containerd.running_containers() == before
