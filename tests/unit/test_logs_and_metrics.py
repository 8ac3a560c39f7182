# SPDX-License-Identifier: Apache-2.0
"""Loggers that name their object, and counters in the Prometheus text format."""

from __future__ import annotations

import logging

import pytest

from kedge import logs, metrics
from kedge.errors import ConfigError


def test_a_line_starts_with_the_objects_name(caplog):
    log = logs.of(logging.getLogger("kedge.test"), "default/web-0")
    with caplog.at_level(logging.INFO):
        log.info("image pulled image=%s", "a")
    assert caplog.messages == ["[default/web-0] image pulled image=a"]


def test_an_unknown_level_is_refused():
    with pytest.raises(ConfigError, match="log level: got: 'loud', wanted one of: DEBUG"):
        logs.setup("loud")


def test_counters_and_gauges_are_rendered_with_their_labels_escaped():
    metrics.count("kedge_test_total", 2, why='a"b\n')
    metrics.count("kedge_test_total", why='a"b\n')
    metrics.gauge("kedge_test_size", 4.5)
    text = metrics.render()
    assert '# TYPE kedge_test_total counter\nkedge_test_total{why="a\\"b\\n"} 3\n' in text
    assert "# TYPE kedge_test_size gauge\nkedge_test_size 4.5\n" in text
    assert metrics.read("kedge_test_size") == 4.5
