# SPDX-License-Identifier: Apache-2.0
"""Nodes that run short of memory or disk, for real: whom it hits, in which order, and who is spared.

Memory is short because the threshold is above what this machine has free; disk is short because the
agent's directory is a small tmpfs, or because the threshold is above what is free.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import local
from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container, is_ready, pod
from tests.rig.images import write_archive
from tests.rig.processes import python_module

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(180)]

ABOVE = f"/kedge-evict-{os.getpid()}"
QUIET = {"nodefs.available": "1%"}
"""Thresholds that this machine is far from."""
SLEEP = "exec sleep 1000000"


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    with EdgeNode.temporary() as started:
        started.configure(cgroupRoot=ABOVE, evictionHard=QUIET)
        yield started
    _leave_no_cgroup()


@pytest.fixture
def small() -> Iterator[EdgeNode]:
    """A node whose directory is a tmpfs of 96 MiB."""
    directory = Path(tempfile.mkdtemp(prefix="kedge-e2e-"))
    data = directory / "edge"
    data.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(data)]
    subprocess.run(words, check=True)
    try:
        with EdgeNode(directory) as started:
            thresholds = {"nodefs.available": "30%", "nodefs.inodesFree": "1%"}
            started.configure(cgroupRoot=ABOVE, evictionHard=thresholds)
            yield started
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)
    _leave_no_cgroup()
    shutil.rmtree(directory, ignore_errors=True)


def _leave_no_cgroup() -> None:
    for path in sorted(Path("/sys/fs/cgroup").glob(f"*{ABOVE}/**/"), reverse=True):
        path.rmdir()


def reason(node: EdgeNode, name: str) -> str:
    found = node.pods().get(name, {})
    return str(found.get("reason", "")) if found.get("phase") == "Failed" else ""


def events(node: EdgeNode, wanted: str) -> list[tuple[str, str]]:
    """Who and what, in order; the agent must not run."""
    found = sorted(node.reports("events").items(), key=lambda one: one[0].rpartition(".")[2])
    return [
        (one["involvedObject"]["name"], one["message"])
        for _, one in found
        if one["reason"] == wanted
    ]


def image(node: EdgeNode, *words: str) -> str:
    """What ``kedge image`` says."""
    return python_module("kedge.ctl", "image", *words, "--dir", str(node.data))


def conditions(node: EdgeNode) -> dict[str, str]:
    status = node.reports("nodes/status")[node.name]["status"]
    return {one["type"]: one["status"] for one in status["conditions"]}


def filling(megabytes: int) -> str:
    return f"x=$(head -c {megabytes}000000 /dev/zero | tr '\\0' x); sleep 1000000; echo \"$x\""


def test_memory_pressure_takes_the_hungriest_first_and_spares_the_critical(node: EdgeNode) -> None:
    hungry = pod("hungry", container(filling(30)))
    modest = pod("modest", container(SLEEP))
    asking = pod("asking", container(SLEEP, resources={"requests": {"memory": "64Mi"}}))
    critical = pod("critical", container(SLEEP), priority=2_000_000_000)
    node.change(hungry, modest, asking, critical)
    node.start()
    names = ("hungry", "modest", "asking", "critical")
    node.wait(lambda: all(is_ready(node, one) for one in names), "all are ready", 40)
    directory = node.cgroup(hungry, "memory", ABOVE)
    assert directory is not None
    usage = "memory.usage_in_bytes" if "/memory/" in str(directory) else "memory.current"
    node.wait(lambda: int((directory / usage).read_text()) > 30_000_000, "it has eaten")
    node.kill()
    node.configure(cgroupRoot=ABOVE, evictionHard={"memory.available": "99.99%"})
    late = pod("late", container(SLEEP))
    node.change(late)
    node.start()
    node.wait(
        lambda: all(reason(node, one) == "Evicted" for one in ("hungry", "modest", "asking")),
        "three are evicted",
        60,
    )
    node.wait(lambda: reason(node, "late") == "Evicted", "a new pod is refused")
    assert is_ready(node, "critical")
    node.kill()
    said = events(node, "Evicted")
    assert [name for name, _ in said] == ["late", "hungry", "modest", "asking"]
    assert said[0][1] == "The node had condition: [MemoryPressure]. "
    assert said[1][1].startswith("The node was low on resource: memory. Threshold quantity: ")
    assert "Container main was using " in said[1][1]
    assert "request is 0, has larger consumption of memory. " in said[1][1]
    assert conditions(node)["MemoryPressure"] == "True"
    status = node.reports("pods/status")["hungry"]["status"]
    disrupted = [one for one in status["conditions"] if one["type"] == "DisruptionTarget"]
    assert (status["phase"], disrupted[0]["reason"]) == ("Failed", "TerminationByKubelet")
    assert status["message"] == said[1][1]
    # what was evicted stays so, also after the agent comes back to a node at ease
    node.configure(cgroupRoot=ABOVE, evictionHard=QUIET)
    node.start()
    node.wait(lambda: is_ready(node, "critical"), "the agent is back")
    assert reason(node, "hungry") == "Evicted"
    assert len(node.containerd.running_containers()) == 1


def test_process_pressure_takes_the_pod_with_most_processes_first(node: EdgeNode) -> None:
    script = "i=0; while [ $i -lt 30 ]; do sleep 100000 & i=$((i+1)); done; touch /full; wait"
    probe = {"exec": {"command": ["cat", "/full"]}, "periodSeconds": 1}
    many = pod("many", container(script, readinessProbe=probe))
    few = pod("few", container(SLEEP))
    critical = pod("critical", container(SLEEP), priority=2_000_000_000)
    node.change(few, many, critical)
    node.start()
    node.wait(lambda: all(is_ready(node, one) for one in ("few", "many", "critical")), "ready", 40)
    node.kill()
    node.configure(cgroupRoot=ABOVE, evictionHard={"pid.available": "99.99%"})
    node.start()
    node.wait(
        lambda: reason(node, "few") == reason(node, "many") == "Evicted", "both are evicted", 60
    )
    assert is_ready(node, "critical")
    node.kill()
    assert [name for name, _ in events(node, "Evicted")] == ["many", "few"]
    assert conditions(node)["PIDPressure"] == "True"


def test_a_full_disk_costs_the_pod_that_filled_it_and_nothing_else(small: EdgeNode) -> None:
    volume = {"name": "work", "emptyDir": {}}
    mount = [{"name": "work", "mountPath": "/work"}]
    script = f"head -c 200000000 /dev/zero > /work/file; {SLEEP}"
    greedy = pod("greedy", container(script, volumeMounts=mount), volumes=[volume])
    quiet = pod("quiet", container(SLEEP))
    small.change(quiet)
    small.start()
    small.wait(lambda: is_ready(small, "quiet"), "the quiet one is ready", 30)
    small.changed(greedy)
    small.wait(lambda: reason(small, "greedy") == "Evicted", "the greedy one is evicted", 60)
    small.wait(
        lambda: os.statvfs(small.data).f_bavail * 10 > os.statvfs(small.data).f_blocks * 4,
        "its space is free again",
    )
    assert is_ready(small, "quiet")
    small.wait(lambda: small.status()["runtime"]["ready"], "the agent is fine")
    assert small.agent is not None
    assert small.agent.is_running()
    small.kill()
    assert conditions(small)["DiskPressure"] == "True"
    assert conditions(small)["Ready"] == "True"
    ((name, message),) = events(small, "Evicted")
    assert name == "greedy"
    assert message.startswith("The node was low on resource: ephemeral-storage. ")


def test_a_pod_over_its_own_limits_of_disk_is_evicted(node: EdgeNode) -> None:
    mount = [{"name": "work", "mountPath": "/work"}]
    write = f"head -c 8000000 /dev/zero > /work/file; {SLEEP}"
    over_volume = pod(
        "over-volume",
        container(write, volumeMounts=mount),
        volumes=[{"name": "work", "emptyDir": {"sizeLimit": "4Mi"}}],
    )
    within = pod(
        "within",
        container(write, volumeMounts=mount),
        volumes=[{"name": "work", "emptyDir": {"sizeLimit": "16Mi"}}],
    )
    limits = {"limits": {"ephemeral-storage": "4Mi"}}
    layer = f"head -c 8000000 /dev/zero > /file; {SLEEP}"
    over_layer = pod("over-layer", container(layer, resources=limits))
    talk = "i=0; while [ $i -lt 200 ]; do head -c 60000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; "
    over_logs = pod("over-logs", container(talk + SLEEP, resources=limits))
    node.change(over_volume, within, over_layer, over_logs)
    node.start()
    node.wait(
        lambda: all(
            reason(node, one) == "Evicted" for one in ("over-volume", "over-layer", "over-logs")
        ),
        "three are evicted",
        90,
    )
    assert is_ready(node, "within")
    _, body = local.ask(node.data, "/metrics")
    told = body.decode()
    assert 'kubelet_evictions{eviction_signal="emptydirfs.limit"} 1' in told
    assert 'kubelet_evictions{eviction_signal="ephemeralcontainerfs.limit"} 2' in told
    node.kill()
    said = dict(events(node, "Evicted"))
    assert said["over-volume"] == 'Usage of EmptyDir volume "work" exceeds the limit "4Mi". '
    wanted = 'Container main exceeded its local ephemeral storage limit "4Mi". '
    assert (said["over-layer"], said["over-logs"]) == (wanted, wanted)
    assert conditions(node)["DiskPressure"] == "False"


def test_a_short_disk_costs_unused_images_first_and_never_one_that_a_pod_names(
    node: EdgeNode,
) -> None:
    archive, kept = node.directory / "more.tar", node.directory / "kept.tar"
    write_archive(archive, unused="true", named="false")
    node.containerd.ctr("images", "import", str(archive))
    write_archive(kept, imported="cat", doomed="echo")
    assert "imported docker.io/kedge/imported:1\n" in image(node, "import", str(kept))
    runs = pod("runs", container(SLEEP), priority=2_000_000_000)
    waits = pod(
        "waits",
        container(SLEEP, envFrom=[{"configMapRef": {"name": "absent"}}]),
        priority=2_000_000_000,
    )
    waits["spec"]["containers"][0]["image"] = "kedge/named:1"
    node.change(runs, waits)
    node.configure(cgroupRoot=ABOVE, evictionHard={"imagefs.available": "99.9%"})
    node.start()
    node.wait(lambda: is_ready(node, "runs"), "the critical pod runs", 30)

    def images() -> set[str]:
        return {line.split()[0] for line in node.containerd.ctr("images", "list", "-q").split()}

    node.wait(lambda: "docker.io/kedge/unused:1" not in images(), "the unused image goes", 30)
    assert {"docker.io/kedge/named:1", "docker.io/kedge/pause:1"} <= images()
    imported = {"docker.io/kedge/imported:1", "docker.io/kedge/doomed:1"}
    assert imported <= images()
    record = node.data / "imported-images"
    noted = {one.read_text().strip(): one.name for one in record.iterdir()}
    assert imported < set(noted)
    # One goes by kedge's command, which also forgets it; the other behind the agent's back.
    assert image(node, "remove", "docker.io/kedge/doomed:1") == "removed docker.io/kedge/doomed:1\n"
    assert imported & images() == {"docker.io/kedge/imported:1"}
    assert not (record / noted["docker.io/kedge/doomed:1"]).exists()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        image(node, "remove", "docker.io/library/busybox:latest")
    assert "is used by 1 containers" in refused.value.stderr
    left = noted["docker.io/kedge/imported:1"]
    assert (record / left).exists()
    node.containerd.ctr("images", "rm", "docker.io/kedge/imported:1", left)
    node.wait(lambda: not (record / left).exists(), "the record of it goes, too", 30)
    assert is_ready(node, "runs")


def test_dead_containers_beyond_the_setting_go(node: EdgeNode) -> None:
    node.configure(cgroupRoot=ABOVE, evictionHard=QUIET, maxDeadContainersPerContainer=0)
    wanted = pod("ends", container("exit 1"))
    node.change(wanted)
    node.start()
    node.wait(lambda: node.pods().get("ends", {}).get("restarts", 0) >= 1, "it was restarted", 40)
    node.wait(lambda: len(node.containerd.all_containers()) == 2, "one container and its sandbox")
