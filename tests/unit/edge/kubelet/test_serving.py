# SPDX-License-Identifier: Apache-2.0
"""What a request for a log amounts to, and how requests are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.edge.kubelet.pod.state import Container, ContainerState, Observed
from kedge.edge.kubelet.serving.face import Request, RequestError
from kedge.edge.kubelet.serving.logs import choose, log_request
from kedge.edge.kubelet.serving.routes import labels_of

RUNNING = Container("c2", "main", 2, ContainerState.RUNNING, "s1")
BEFORE = Container("c1", "main", 1, ContainerState.EXITED, "s1", log_path="/logs/old.log")
LOST = Container("c0", "side", 0, ContainerState.EXITED)
OBSERVED = Observed(containers=(RUNNING, BEFORE, LOST))


def request(**query: str) -> Request:
    return Request("GET", (), {name: [value] for name, value in query.items()}, False, b"")


def test_parameters_become_what_is_read() -> None:
    found = log_request(
        request(follow="true", tailLines="5", limitBytes="9", sinceSeconds="10", timestamps="1"),
        RUNNING,
        Path("/logs/pod"),
        1000.0,
    )
    assert found == {
        "path": "/logs/pod/main/2.log",
        "container": "c2",
        "is_running": True,
        "follow": True,
        "tail": 5,
        "limit_bytes": 9,
        "selection": {"since_ns": 990_000_000_000, "timestamps": True, "stream": ""},
    }


def test_a_time_is_read_with_its_zone_and_a_stream_by_its_name() -> None:
    wanted = request(sinceTime="1970-01-01T01:00:01+01:00", stream="Stderr")
    found = log_request(wanted, BEFORE, Path("/logs"), 0.0)
    assert found["selection"] == {
        "since_ns": 1_000_000_000,
        "timestamps": False,
        "stream": "stderr",
    }
    assert (found["path"], found["is_running"]) == ("/logs/old.log", False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tailLines", "-1"), ("limitBytes", "x"), ("sinceTime", "yesterday"), ("stream", "both")],
)
def test_a_parameter_that_is_none_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(RequestError, match=name) as refused:
        log_request(request(**{name: value}), RUNNING, Path("/logs"), 0.0)
    assert refused.value.status == 400


def test_the_newest_container_is_chosen_or_the_one_before_it() -> None:
    assert choose(request(), OBSERVED, "main", "p") is RUNNING
    assert choose(request(previous="true"), OBSERVED, "main", "p") is BEFORE


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("other", {}, "waiting to start"),
        ("side", {}, "lost with its runtime"),
        ("side", {"previous": "true"}, "previous terminated container 'side' in pod 'p' not found"),
    ],
)
def test_a_container_without_a_log_is_named(name: str, query: dict[str, str], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        choose(request(**query), OBSERVED, name, "p")


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", ("metrics", "cadvisor"), ("GET", "metrics/cadvisor", "false")),
        ("POST", ("exec", "default", "p", "main"), ("POST", "exec", "true")),
        ("GET", ("metrics", "made-up"), ("GET", "other", "false")),
        ("BREW", ("made-up",), ("other", "other", "false")),
        ("GET", (), ("GET", "other", "false")),
    ],
)
def test_requests_are_counted_under_few_names(
    method: str, path: tuple[str, ...], wanted: tuple[str, str, str]
) -> None:
    found = labels_of(Request(method, path, {}, False, b""))
    assert (found["method"], found["path"], found["long_running"]) == wanted
