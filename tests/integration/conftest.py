# SPDX-License-Identifier: Apache-2.0
"""What tests of the kubelet on a fake runtime begin with; packages below have fixtures of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kedge.edge.runtime.fake import FakeRuntime
from kedge.store import Store
from tests.integration.kubelet_rig import Kubelet

if TYPE_CHECKING:
    from collections.abc import Iterator
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
