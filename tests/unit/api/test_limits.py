# SPDX-License-Identifier: Apache-2.0
"""What LimitRanges complete and bound, and how amounts are counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api import amounts, limits, quantities
from kedge.api.kinds import find
from kedge.api.validation import validate
from kedge.errors import Invalid


def limit_range(*items: dict[str, Any]) -> dict[str, Any]:
    obj = {"metadata": {"name": "r", "namespace": "default"}, "spec": {"limits": list(items)}}
    limits.defaults(obj)
    return obj


def pod(*resources: dict[str, Any], **spec: Any) -> dict[str, Any]:
    containers = [
        {"name": f"c{number}", "image": "i", **({"resources": one} if one else {})}
        for number, one in enumerate(resources)
    ]
    return {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


def test_defaults_come_from_bounds() -> None:
    (item,) = limit_range(
        {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi", "cpu": "1"}}
    )["spec"]["limits"]
    assert item["default"] == {"cpu": "2"}
    assert item["defaultRequest"] == {"cpu": "2", "memory": "1Mi"}


def test_containers_get_what_they_do_not_state_and_the_pod_says_so() -> None:
    given_range = limit_range(
        {"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}
    )  # fmt: skip
    obj = pod({}, {"limits": {"cpu": "1"}}, initContainers=[{"name": "first", "image": "i"}])
    limits.complete(given_range, obj)
    first, second = obj["spec"]["containers"]
    assert first["resources"] == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"cpu": "500m", "memory": "1Gi"},
    }
    assert second["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert obj["metadata"]["annotations"][limits.ANNOTATION] == (
        "LimitRanger plugin set: cpu, memory request for container c0; cpu, memory limit for container c0; "
        "cpu, memory request for container c1; memory limit for container c1; "
        "cpu, memory request for init container first; cpu, memory limit for init container first"
    )


@pytest.mark.parametrize(
    ("item", "obj", "found"),
    [
        ({"type": "Container", "min": {"cpu": "100m"}}, pod({"requests": {"cpu": "50m"}}),
         ["minimum cpu usage per Container is 100m, but request is 50m"]),
        ({"type": "Container", "min": {"cpu": "100m"}}, pod({}),
         ["minimum cpu usage per Container is 100m.  No request is specified"]),
        ({"type": "Container", "max": {"cpu": "1"}}, pod({"requests": {"cpu": "1"}}),
         ["maximum cpu usage per Container is 1.  No limit is specified"]),
        ({"type": "Container", "max": {"cpu": "1"}}, pod({"limits": {"cpu": "1500m"}}),
         ["maximum cpu usage per Container is 1, but limit is 1500m"]),
        ({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}, pod({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
         ["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"]),
        ({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}, pod({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), []),
        ({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}, pod({"limits": {"cpu": "2"}}),
         ["cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"]),
        ({"type": "Pod", "max": {"memory": "2Gi"}}, pod({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1.5Gi"}}),
         ["maximum memory usage per Pod is 2Gi, but limit is 2560Mi"]),
        ({"type": "Pod", "min": {"cpu": "1"}}, pod({"requests": {"cpu": "1"}}), []),
    ],
)  # fmt: skip
def test_bounds_of_pods(item: dict[str, Any], obj: dict[str, Any], found: list[str]) -> None:
    assert limits.check_pod({"spec": {"limits": [item]}}, obj) == found


def test_bounds_of_claims_are_of_requests_alone() -> None:
    item = {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}

    def check(size: str) -> list[str]:
        claim = {"spec": {"resources": {"requests": {"storage": size}}}}
        return limits.check_claim({"spec": {"limits": [item]}}, claim)

    assert check("1Gi") == []
    assert check("512Mi") == [
        "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"
    ]
    assert check("3Gi") == [
        "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    ]


@pytest.mark.parametrize(
    ("item", "field", "text"),
    [
        ({"type": "Pod", "default": {"cpu": "1"}}, "spec.limits[0].default",
         "Forbidden: may not be specified when `type` is 'Pod'"),
        ({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}, "spec.limits[0].min[cpu]",
         'Invalid value: "2": min value 2 is greater than max value 1'),
        ({"type": "Container", "defaultRequest": {"cpu": "2"}, "default": {"cpu": "1"}}, "spec.limits[0].defaultRequest[cpu]",
         'Invalid value: "2": default request value 2 is greater than default limit value 1'),
        ({"type": "PersistentVolumeClaim", "default": {"storage": "1"}}, "spec.limits[0].limits",
         "Required value: either minimum or maximum storage value is required, but neither was provided"),
        ({"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}, "spec.limits[0].maxLimitRequestRatio[cpu]",
         'Invalid value: "500m": ratio 500m is less than 1'),
        ({"type": "Thing"}, "spec.limits[0].type",
         'Invalid value: "Thing": must be a standard limit type or fully qualified'),
    ],
)  # fmt: skip
def test_ranges_that_contradict_themselves_are_refused(
    item: dict[str, Any], field: str, text: str
) -> None:
    kind = find("", "limitranges")
    assert kind is not None
    with pytest.raises(Invalid) as caught:
        validate(kind, limit_range(item))
    causes = (caught.value.details or {})["causes"]
    assert {"field": field, "message": text} in [
        {name: cause[name] for name in ("field", "message")} for cause in causes
    ]


_AMOUNT = st.builds(
    lambda number, suffix: quantities.canonical(f"{number}{suffix}"),
    st.integers(0, 5000),
    st.sampled_from(["", "m", "Ki", "Mi", "M", "k"]),
)
_LISTS = st.dictionaries(st.sampled_from(["cpu", "memory", "pods"]), _AMOUNT)


@given(_LISTS, _LISTS)
def test_sums_are_exact_whatever_the_units(one: dict[str, str], other: dict[str, str]) -> None:
    total = amounts.add(one, other)
    assert total.keys() == one.keys() | other.keys()
    for name, amount in total.items():
        parts = [quantities.parse(part[name]) for part in (one, other) if name in part]
        assert quantities.parse(amount) == sum(parts)
        # a sum of binary amounts that is no multiple of 1024 has no suffix
        assert quantities.canonical(amount) == amount or amount.isdecimal()


@given(_LISTS, _LISTS)
def test_growth_and_what_was_there_make_at_least_what_is(
    now: dict[str, str], before: dict[str, str]
) -> None:
    more = amounts.growth(now, before)
    for name, amount in now.items():
        was = quantities.parse(before.get(name, "0"))
        wanted = max(quantities.parse(amount) - was, 0)
        assert quantities.parse(more[name]) == wanted


def test_a_pod_needs_its_containers_and_sidecars_or_the_most_of_its_start() -> None:
    def takes(name: str, cpu: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [takes("a", "100m"), takes("b", "200m")],
        "initContainers": [
            takes("side", "50m", restartPolicy="Always"),
            takes("first", "1"),
        ],
        "overhead": {"cpu": "10m", "memory": "1Mi"},
    }
    assert amounts.of_pod({"spec": spec}, "requests") == {"cpu": "1060m", "memory": "1Mi"}
    assert amounts.of_pod({"spec": spec}, "limits") == {}
    whole = {**spec, "resources": {"requests": {"cpu": "2"}}}
    assert amounts.of_pod({"spec": whole}, "requests")["cpu"] == "2010m"


def test_what_a_node_has_given_counts_until_it_is_given_back() -> None:
    container = {"name": "a", "resources": {"requests": {"cpu": "1"}}}
    status = {"containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "2"}}]}
    obj = {"spec": {"containers": [container]}, "status": status}
    assert amounts.of_pod(obj, "requests") == {"cpu": "2"}
