# SPDX-License-Identifier: Apache-2.0
"""What tests of the kubelet on a fake runtime, and of the controllers over a store, begin with.

Packages below have fixtures of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kedge.cluster import bootstrap
from kedge.cluster.apiserver.registry import Registry
from kedge.cluster.controllers import Config
from kedge.edge.runtime.fake import FakeRuntime
from kedge.store import Store
from tests.fakes.control_plane import ControlPlane, running
from tests.integration.kubelet_rig import Kubelet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store", mode="replica", durable=False)
    yield opened
    opened.close()


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def kubelet(store: Store, runtime: FakeRuntime, tmp_path: Path) -> Kubelet:
    return Kubelet(store, runtime, tmp_path)


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Store]:
    """The store of a cluster."""
    opened = Store.open(tmp_path / "primary", mode="primary", durable=False)
    yield opened
    opened.close()


@pytest.fixture
def controller_config() -> Config:
    return Config(ca_pem="CA")


@pytest.fixture
async def plane(primary: Store, controller_config: Config) -> AsyncIterator[ControlPlane]:
    """Controllers and scheduler over a store that holds what a cluster begins with."""
    registry = Registry(primary)
    async with running(primary, registry, controller_config) as made:
        await bootstrap.prepare(registry, 6443)
        yield made
