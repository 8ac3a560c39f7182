# SPDX-License-Identifier: Apache-2.0
"""What tests of kubectl against a control plane with one fake node begin with.

Modules that test other things have fixtures of their own with these names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import FakeNode
from tests.rig import control
from tests.rig.kubectl import Kubectl, fetched, newer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODE = "node-1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running cluster with one fake node; its kubeconfig."""
    with (
        control.cluster(tmp_path_factory.mktemp("cluster")) as kubeconfig,
        FakeNode(kubeconfig, NODE),
    ):
        yield kubeconfig


@pytest.fixture(scope="module", params=["debian", "current"])
def program(request: pytest.FixtureRequest) -> str:
    return fetched("debian") if request.param == "debian" else newer()


@pytest.fixture
def kubectl(
    program: str,
    cluster: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kubectl]:
    namespace = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-50:].strip("-")
    tool = Kubectl(program, cluster, namespace, tmp_path_factory.mktemp("home"))
    tool("create", "namespace", namespace)
    yield tool
    tool.run("delete", "namespace", namespace, "--wait=false")
