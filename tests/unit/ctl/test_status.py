# SPDX-License-Identifier: Apache-2.0
"""``kedge status`` from what the agent wrote last."""

from __future__ import annotations

import datetime as dt
import json
import os

import pytest

from kedge.ctl import status
from kedge.ctl.failure import Failure

NOW = dt.datetime(2026, 1, 1, 12, 0, 0, tzinfo=dt.UTC)
POD = {
    "namespace": "default",
    "name": "web-0",
    "uid": "u",
    "phase": "Running",
    "ready": "1/1",
    "restarts": 2,
    "reason": "",
}
WRITTEN = {
    "time": "2026-01-01T11:59:57Z",
    "node": "edge-1",
    "agent": {"pid": 0, "version": "0.1.0", "rssBytes": 29_000_000},
    "link": {
        "state": "connecting",
        "since": "2026-01-01T11:00:00Z",
        "lastError": "nothing listens",
        "cloud": "10.0.0.1:10000",
    },
    "store": {"path": "/x", "bytes": 1_500_000, "objects": 41, "setAside": ""},
    "runtime": {"name": "containerd", "version": "1.6.20", "ready": True, "message": ""},
    "pods": [POD],
    "waiting": {"reports": 3},
}


def test_a_stopped_agents_last_words_are_shown_as_such(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps(WRITTEN))
    found = status.read(tmp_path)
    found["agent"]["running"] = status.is_running(found)
    assert status.lines(found, NOW) == [
        "node      edge-1",
        "agent     stopped; as of 3 s ago, version 0.1.0, 29.0 MB",
        "link      connecting for 60 m, 10.0.0.1:10000; last error: nothing listens",
        "store     1.5 MB, 41 objects",
        "runtime   containerd 1.6.20 ready",
        "waiting   3 reports for the cloud",
        "pods      1",
        "  default/web-0                            1/1    Running, 2 restarts",
    ]


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("", "api       listening on 127.0.0.1:10550, 169.254.30.10:10550 for pods"),
        (
            "address in use",
            "api       not listening on 127.0.0.1:10550, 169.254.30.10:10550 for pods: address in use",
        ),
    ],
)
def test_the_api_of_the_node_is_one_line(problem, line):
    served = {"listen": "127.0.0.1:10550", "pods": "169.254.30.10:10550", "problem": problem}
    assert line in status.lines(WRITTEN | {"metaserver": served}, NOW)


def test_the_json_form_is_one_object(tmp_path, capsys):
    (tmp_path / "status.json").write_text(json.dumps(WRITTEN))
    status.run(tmp_path, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["agent"]["running"] is False
    assert printed["waiting"] == {"reports": 3}


def test_a_process_of_another_program_is_no_agent():
    assert not status.is_running({"agent": {"pid": os.getpid()}})
    assert not status.is_running({"agent": {"pid": "x"}})
    assert not status.is_running({})


def test_even_an_empty_status_can_be_shown():
    assert status.lines({}, NOW)[0] == "node      ?"


def test_a_directory_without_a_node_says_what_to_do(tmp_path):
    with pytest.raises(Failure, match="no node in"):
        status.read(tmp_path)
    (tmp_path / "edge.yaml").write_text("nodeName: a\n")
    with pytest.raises(Failure, match="its agent never ran"):
        status.read(tmp_path)
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(Failure, match="cannot be read"):
        status.read(tmp_path)
