# SPDX-License-Identifier: Apache-2.0
"""Environment, resources, resolver, images, probes: small pure parts of the kubelet."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet import objects
from kedge.edge.kubelet.container import dns, mounts
from kedge.edge.kubelet.container.environment import (
    ContainerConfigError,
    Place,
    environment,
    expand,
)
from kedge.edge.kubelet.health import checks, probes
from kedge.edge.kubelet.images import images, registries
from kedge.edge.kubelet.pod import observe
from kedge.edge.kubelet.resources import resources
from kedge.edge.kubelet.volumes import Prepared
from tests.unit.edge.kubelet.builders import pod, spec


class Fixed:
    """Objects of a test."""

    def __init__(self, *found: tuple[ObjectKey, dict[str, Any]]) -> None:
        self._found = dict(found)

    def get(self, key: ObjectKey) -> dict[str, Any] | None:
        return self._found.get(key)

    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        return [one for key, one in self._found.items() if key[:3] == (group, resource, namespace)]


PLACE = Place("edge-1", ("192.168.0.5",), ("10.1.0.7",), {"cpu": "2", "memory": "1Gi"})
OBJECTS = Fixed(
    (objects.config_map("default", "settings"), {"data": {"mode": "fast"}}),
    (
        objects.secret("default", "key"),
        {"data": {"password": base64.b64encode(b"s3cret").decode()}},
    ),
)


def variables(*env: dict[str, Any], **more: Any) -> dict[str, str]:
    return environment(pod(), spec(env=list(env), **more), OBJECTS, PLACE)


def source(**value: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": value}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("x$(A)y$", "x1y$"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1"}) == wanted


@pytest.mark.parametrize(
    ("variable", "wanted"),
    [
        (source(configMapKeyRef={"name": "settings", "key": "mode"}), "fast"),
        (source(secretKeyRef={"name": "key", "key": "password"}), "s3cret"),
        (source(fieldRef={"fieldPath": "metadata.name"}), "web"),
        (source(fieldRef={"fieldPath": "status.podIP"}), "10.1.0.7"),
        (source(resourceFieldRef={"resource": "limits.cpu"}), "2"),
        (source(resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"}), "1024"),
    ],
)
def test_a_variable_has_its_source(variable: dict[str, Any], wanted: str) -> None:
    assert variables(variable) == {"X": wanted}


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (source(configMapKeyRef={"name": "none", "key": "mode"}), 'configmap "none" not found'),
        (source(configMapKeyRef={"name": "settings", "key": "no"}), "couldn't find key no in configmap default/settings"),
        (source(secretKeyRef={"name": "none", "key": "x"}), 'secret "none" not found'),
        (source(fieldRef={"fieldPath": "spec.other"}), "unsupported fieldPath: spec.other"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(variable: dict[str, Any], message: str) -> None:
    with pytest.raises(ContainerConfigError, match=message.replace("(", "\\(")):
        variables(variable)


def test_what_is_optional_may_be_missing() -> None:
    assert (
        variables(source(configMapKeyRef={"name": "none", "key": "mode", "optional": True})) == {}
    )
    assert variables(envFrom=[{"secretRef": {"name": "none", "optional": True}}]) == {}


def test_all_keys_come_with_their_prefix_and_later_ones_win() -> None:
    found = variables(
        {"name": "P_mode", "value": "slow"},
        {"name": "URL", "value": "http://$(P_mode)"},
        envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "P_"}],
    )
    assert found == {"P_mode": "slow", "URL": "http://slow"}


def test_no_api_server_is_announced_unless_there_is_one() -> None:
    assert "KUBERNETES_SERVICE_HOST" not in variables()
    place = Place("edge-1", api_endpoint=("10.0.0.1", 443))
    assert environment(pod(), spec(), OBJECTS, place)["KUBERNETES_SERVICE_PORT"] == "443"


def test_resources_become_shares_quota_and_bytes() -> None:
    asked = spec(
        resources={"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}
    )
    found = resources.linux_resources("Burstable", asked, 1 << 30)
    assert found["cpu_shares"] == 256
    assert (found["cpu_quota"], found["cpu_period"]) == (50_000, 100_000)
    assert found["memory_limit_in_bytes"] == 64 << 20
    assert found["oom_score_adj"] == 938


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1Zi", "--1", "1e", "9" * 50])
def test_a_quantity_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        resources.nano(text)


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("host:5000/busybox", "Always"),
        ("busybox@sha256:1", "IfNotPresent"),
    ],
)
def test_the_pull_policy_without_one(image: str, policy: str) -> None:
    assert images.pull_policy({"image": image}) == policy


def test_credentials_are_those_of_the_registry() -> None:
    entry = {"auth": base64.b64encode(b"me:secret").decode()}
    config = {"auths": {"https://index.docker.io/v1/": entry, "other.io": {}}}
    held = {"data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()}}
    secrets = [{"data": {".dockerconfigjson": "broken"}}, held]
    configs = [registries.of_secret(one) for one in secrets]
    (found,) = registries.candidates("busybox:1", configs)
    assert (found["username"], found["password"]) == ("me", "secret")
    assert registries.candidates("quay.io/a/b", configs) == []


def test_cluster_first_needs_a_cluster_resolver() -> None:
    node = dns.parse_resolver("nameserver 1.1.1.1 # first\nsearch a.b\noptions ndots:2\n")
    assert dns.dns_config(pod(), node, (), "cluster.local")[0]["servers"] == ["1.1.1.1"]
    found, left_out = dns.dns_config(pod(), node, ("10.96.0.10",), "cluster.local")
    assert (found["options"], left_out) == (["ndots:5"], [])
    assert found["searches"] == [
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "a.b",
    ]


def test_a_sub_path_may_not_leave_its_volume(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    for sub in ("../x", "/etc", "out"):
        held = spec(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": sub}])
        with pytest.raises(ContainerConfigError, match="leaves the volume"):
            mounts.build(
                held,
                volumes={"v": Prepared(str(tmp_path))},
                variables={},
                directory=tmp_path,
                hosts=None,
                attempt=0,
            )


def test_a_probe_needs_its_threshold_in_a_row() -> None:
    rule = probes.Rule(0, 1, 1, 2, 3)
    tally = probes.Tally(good=False)
    seen = []
    for result in (True, True, False, False, True, False, False, False):
        tally = tally.add(result, rule)
        seen.append(tally.good)
    assert seen == [False, True, True, True, True, True, True, False]


@pytest.mark.parametrize(("port", "wanted"), [(80, 80), ("web", 8080), ("90", 90)])
def test_a_port_has_a_number_or_a_name(port: int | str, wanted: int) -> None:
    assert checks.port_number(spec(ports=[{"name": "web", "containerPort": 8080}]), port) == wanted


@pytest.mark.parametrize(
    ("probe", "wanted"),
    [
        (
            {"httpGet": {"port": "web", "scheme": "HTTPS", "httpHeaders": [{"name": "a"}]}},
            {"kind": "https", "host": "10.0.0.1", "port": 80, "path": "/", "headers": [("a", "")]},
        ),
        ({"tcpSocket": {"port": 1, "host": "h"}}, {"kind": "tcp", "host": "h", "port": 1}),
        ({"grpc": {"port": 2}}, {"kind": "grpc", "host": "10.0.0.1", "port": 2, "path": ""}),
    ],
)
def test_a_network_probe_asks_the_pods_address_unless_it_names_another(
    probe: dict[str, Any], wanted: dict[str, Any]
) -> None:
    container = spec(ports=[{"name": "web", "containerPort": 80}])
    assert checks.request(probe, container, "10.0.0.1") == wanted


@pytest.mark.parametrize("probe", [{}, {"httpGet": {"port": "none"}}])
def test_a_probe_that_asks_nothing_or_a_port_that_is_not_there_is_an_error(
    probe: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=r"probe has no|no port named: none"):
        checks.request(probe, spec(), "10.0.0.1")


def test_a_lost_container_counts_as_killed_and_keeps_the_count() -> None:
    report = {
        "name": "main",
        "restartCount": 4,
        "containerID": "containerd://abc",
        "state": {"running": {"startedAt": "2027-01-15T08:00:00Z"}},
        "lastState": {"terminated": {"exitCode": 1, "containerID": "containerd://before"}},
    }
    lost = observe.lost({"containerStatuses": [report]}, [])
    assert [(one.id, one.attempt, one.exit_code, one.is_lost) for one in lost] == [
        ("abc", 4, 137, True),
        ("before", 3, 1, True),
    ]
    assert observe.lost({"containerStatuses": [report]}, ["abc", "before"]) == []


def test_last_words_fall_back_to_the_last_lines_of_the_log(tmp_path: Path) -> None:
    words, log = tmp_path / "words", tmp_path / "0.log"
    log.write_text(
        "".join(f"2027-01-15T08:00:00.0Z stdout F line {number}\n" for number in range(1000))
        + "2027-01-15T08:00:00.0Z stderr P half \n2027-01-15T08:00:00.0Z stderr F whole\n"
    )
    lines = mounts.read_last_words(words, log).splitlines()
    assert (len(lines), lines[-2:]) == (80, ["line 999", "half whole"])
    log.write_text(f"2027-01-15T08:00:00.0Z stdout F {'x' * 5000}\n")
    assert mounts.read_last_words(words, log) == "x" * 2048
    words.write_text("y" * 5000)
    assert mounts.read_last_words(words, log) == "y" * 4096
    assert mounts.read_last_words(tmp_path / "none", None) == ""


class Probed:
    """A container whose commands succeed, each after its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked: list[str] = []
        self.seconds = seconds

    async def execute(self, command: list[str], timeout_seconds: float) -> tuple[int, str]:
        self.asked.append(command[0])
        await asyncio.sleep(self.seconds)
        self.asked.append(f"{command[0]} done")
        return 0, ""

    async def ask(self, what: dict[str, Any], timeout_seconds: float) -> tuple[bool, str]:
        raise AssertionError(what)

    def address(self) -> str:
        return ""


def probe(command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": [command]}, "periodSeconds": 10, **more}


async def probed(
    target: Probed,
    age: float,
    seconds: float,
    *,
    ready: bool = False,
    spread: float = 0.0,
    **wanted: Any,
) -> list[str]:
    prober = probes.Prober(
        spec(**wanted), target, changed=lambda _: None, unhealthy=lambda *_: None
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await prober.run(age, known_ready=ready, spread=spread)
    return target.asked


@pytest.mark.parametrize(("spread", "count"), [(0.0, 1), (0.9, 0)])
async def test_probes_of_an_adopted_container_are_spread_over_their_period(
    spread: float, count: int
) -> None:
    wanted = probe("alive", initialDelaySeconds=5)
    asked = await probed(Probed(), 100.0, 0.1, ready=True, spread=spread, livenessProbe=wanted)
    assert asked.count("alive") == count


async def test_after_a_startup_probe_readiness_comes_before_liveness() -> None:
    kinds = {f"{kind}Probe": probe(kind) for kind in ("startup", "liveness", "readiness")}
    asked = await probed(Probed(0.02), 0.0, 0.5, **kinds)
    order = ["startup", "readiness", "liveness"]
    assert asked == [word for kind in order for word in (kind, f"{kind} done")]


async def test_a_readiness_probe_that_hangs_keeps_no_liveness_probe_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probes, "READINESS_FIRST_SECONDS", 0.05)
    kinds = {f"{kind}Probe": probe(kind) for kind in ("liveness", "readiness")}
    late = probe("readiness", initialDelaySeconds=60)
    asked = await probed(
        Probed(), 0.0, 0.5, startupProbe=probe("startup"), **kinds | {"readinessProbe": late}
    )
    assert asked == ["startup", "startup done", "liveness", "liveness done"]


async def test_an_initial_delay_counts_from_the_containers_start() -> None:
    late = probe("liveness", initialDelaySeconds=60)
    asked = await probed(Probed(), 1.0, 0.1, startupProbe=probe("startup"), livenessProbe=late)
    assert asked == ["startup", "startup done"]
