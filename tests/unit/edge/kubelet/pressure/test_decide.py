# SPDX-License-Identifier: Apache-2.0
"""Thresholds, conditions and the order of eviction."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.edge.config import EVICTION_HARD, EdgeConfig
from kedge.edge.kubelet.pressure import ranking
from kedge.edge.kubelet.pressure.decide import Memory, Reading, Usage, decide
from kedge.edge.kubelet.pressure.thresholds import amount, thresholds
from tests.unit.edge.kubelet.builders import pod, spec

MI = 1 << 20
MEMORY, DISK = "memory.available", "nodefs.available"


def hard(**more: str) -> Any:
    return thresholds({MEMORY: "100Mi"} | more, {}, {}, {})


def left(units: int) -> dict[str, Reading]:
    return {MEMORY: Reading(units * MI, 1000 * MI)}


def test_less_than_the_threshold_is_pressure_and_due_at_once() -> None:
    found = decide(hard(), left(100), Memory(), 0, 300)
    assert (found.conditions, found.due) == (frozenset(), ())
    found = decide(hard(), left(99), Memory(), 0, 300)
    assert found.conditions == {"MemoryPressure"}
    assert [one.signal for one in found.due] == [MEMORY]


def test_a_condition_outlives_its_cause_by_the_transition_period() -> None:
    memory = decide(hard(), left(1), Memory(), 0, 300).memory
    found = decide(hard(), left(500), memory, 299, 300)
    assert (found.conditions, found.due) == ({"MemoryPressure"}, ())
    found = decide(hard(), left(500), found.memory, 300, 300)
    assert found.conditions == frozenset()


def test_a_soft_threshold_is_a_condition_at_once_and_due_after_its_grace() -> None:
    soft = thresholds({}, {MEMORY: "10%"}, {MEMORY: 60}, {})
    found = decide(soft, left(50), Memory(), 0, 300)
    assert (found.conditions, found.due) == ({"MemoryPressure"}, ())
    found = decide(soft, left(50), found.memory, 59, 300)
    assert found.due == ()
    assert len(decide(soft, left(50), found.memory, 60, 300).due) == 1
    relieved = decide(soft, left(500), found.memory, 60, 300)
    assert decide(soft, left(50), relieved.memory, 61, 300).due == ()


def test_minimum_reclaim_is_asked_for_only_once_it_was_met() -> None:
    found = thresholds({MEMORY: "100Mi"}, {}, {}, {MEMORY: "50Mi"})
    assert decide(found, left(120), Memory(), 0, 300).due == ()
    memory = decide(found, left(90), Memory(), 0, 300).memory
    memory = (again := decide(found, left(120), memory, 1, 300)).memory
    assert len(again.due) == 1
    assert decide(found, left(150), memory, 2, 300).due == ()


def test_memory_is_relieved_before_disk_and_hard_before_soft() -> None:
    wanted = thresholds({DISK: "10%"}, {MEMORY: "10%", DISK: "20%"}, {MEMORY: 1, DISK: 1}, {})
    readings = left(1) | {DISK: Reading(1, 1000)}
    memory = decide(wanted, readings, Memory(), 0, 300).memory
    found = decide(wanted, readings, memory, 10, 300)
    assert [(one.signal, one.is_hard) for one in found.due] == [
        (DISK, True),
        (MEMORY, False),
        (DISK, False),
    ]
    assert found.conditions == {"MemoryPressure", "DiskPressure"}


def test_a_signal_that_cannot_be_read_decides_nothing() -> None:
    assert decide(hard(), {}, Memory(), 0, 300).due == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eviction_hard": {"memory": "1Gi"}}, "unknown signal, got: 'memory'"),
        ({"eviction_hard": {MEMORY: "lots"}}, "memory.available: got: 'lots'"),
        ({"eviction_hard": {MEMORY: "100%"}}, "got: '100%'"),
        ({"eviction_soft": {MEMORY: "1Gi"}}, "evictionSoftGraceSeconds"),
        ({"eviction_soft_grace_seconds": {MEMORY: 3}}, "not in evictionSoft"),
        ({"eviction_minimum_reclaim": {"x": "1"}}, "evictionMinimumReclaim: unknown signal"),
        ({"kube_reserved": {"cpu": "x"}}, "kubeReserved: cpu: got: 'x'"),
        ({"image_gc_low_threshold_percent": 90}, "imageGcLowThresholdPercent: got: 90"),
        ({"max_dead_containers_per_container": -1}, "maxDeadContainersPerContainer: got: -1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("'", ".")):
        EdgeConfig(**settings)


def test_the_defaults_are_the_kubelets_and_zero_takes_one_away() -> None:
    assert {one.signal for one in EdgeConfig().eviction_thresholds()} == set(EVICTION_HARD)
    assert thresholds({MEMORY: "0%", DISK: "0"}, {}, {}, {}) == ()
    assert amount("1.5Gi").of(0) == 1536 * MI


# ranking


def using(name: str, request: str | None = None, priority: int = 0) -> dict[str, Any]:
    resources = {"requests": {"memory": request}} if request else {}
    found = pod(spec(resources=resources))
    found["metadata"] |= {"name": name, "uid": name}
    found["spec"]["priority"] = priority
    return found


def order(pods: list[dict[str, Any]], used: dict[str, int], resource: str = "memory") -> list[str]:
    usages = {name: Usage(size) for name, size in used.items()}
    return [one["metadata"]["name"] for one in ranking.rank(pods, usages, resource)]


def test_pods_over_their_request_go_first_then_low_priority_then_the_most_over() -> None:
    pods = [
        using("within-low", "200Mi", -10),
        using("over-high", "10Mi", 1000),
        using("over-little", "100Mi"),
        using("over-much", "100Mi"),
        using("besteffort-small"),
    ]
    used = {
        "within-low": 100 * MI,
        "over-high": 900 * MI,
        "over-little": 101 * MI,
        "over-much": 300 * MI,
        "besteffort-small": 10 * MI,
    }
    assert order(pods, used) == [
        "over-much",
        "besteffort-small",
        "over-little",
        "over-high",
        "within-low",
    ]


def test_process_ids_go_by_priority_and_number() -> None:
    pods = [using("few"), using("many"), using("important", None, 5)]
    assert order(pods, {"few": 3, "many": 90, "important": 500}, "pids") == [
        "many",
        "few",
        "important",
    ]


def test_critical_and_static_pods_are_spared() -> None:
    static, critical = using("static"), using("critical", None, 2_000_000_000)
    static["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    assert order([static, critical, using("other")], {}) == ["other"]


def test_the_message_is_the_kubelets() -> None:
    (threshold,) = hard()
    wanted = using("hungry", "10Mi")
    text = ranking.message(
        wanted, threshold, Reading(50 * MI, 1000 * MI), Usage(60 * MI, {"main": 60 * MI})
    )
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 60Mi, request is 10Mi, has larger consumption of memory. "
    )


def test_limits_of_local_storage_are_told_apart() -> None:
    wanted = pod(
        spec("a", resources={"limits": {"ephemeral-storage": "10Mi"}}),
        spec("b", resources={"limits": {"ephemeral-storage": "10Mi"}}),
    )
    wanted["spec"]["volumes"] = [{"name": "work", "emptyDir": {"sizeLimit": "5Mi"}}]
    check = ranking.limit_exceeded
    assert check(wanted, {"a": 10 * MI, "b": 1}, {"work": 5 * MI}, 16 * MI) == ("", "")
    assert check(wanted, {}, {"work": 6 * MI}, 6 * MI) == (
        "emptydirfs.limit",
        'Usage of EmptyDir volume "work" exceeds the limit "5Mi". ',
    )
    assert check(wanted, {"a": 11 * MI}, {}, 11 * MI) == (
        "ephemeralcontainerfs.limit",
        'Container a exceeded its local ephemeral storage limit "10Mi". ',
    )
    assert check(wanted, {"a": 9 * MI, "b": 9 * MI}, {"work": 4 * MI}, 22 * MI) == (
        "ephemeralpodfs.limit",
        "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ",
    )
    wanted["spec"]["containers"][1]["resources"] = {}
    assert check(wanted, {"b": 99 * MI}, {}, 99 * MI) == ("", "")
