# SPDX-License-Identifier: Apache-2.0
"""Flags and profiles for all tests."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.rig.containerd import Containerd

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "fast", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "slow", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

NEEDED = ("containerd", "runc", "ip", "iptables", "kubectl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--e2e", action="store_true", help="run the tests that need root and real programs"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips e2e tests unless asked; when asked, a machine that cannot run them is a failure in CI."""
    reason = _why_not(config)
    if reason is None:
        return
    if (
        config.getoption("--e2e")
        and os.environ.get("CI")
        and any("e2e" in item.keywords for item in items)
    ):
        raise pytest.UsageError(f"end-to-end tests cannot run here: {reason}")
    for item in items:
        if "e2e" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not(config: pytest.Config) -> str | None:
    if not config.getoption("--e2e"):
        return "needs --e2e"
    if os.geteuid() != 0:
        return "needs root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    return f"missing programs: {', '.join(missing)}" if missing else None


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """A containerd of our own for all tests of a run; nothing of it is left afterwards."""
    instance = Containerd(tmp_path_factory.mktemp("containerd"))
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()
