# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.registry import Registry
from kedge.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry over a real store that does not wait for the disk, with a namespace and its account."""
    store = Store.open(tmp_path, mode="primary", durable=False)
    pump = asyncio.ensure_future(store.run())
    registry = Registry(store)
    await registry.create(
        ObjectKey("", "namespaces", "", "default"), {"metadata": {"name": "default"}}
    )
    await registry.create(
        ObjectKey("", "serviceaccounts", "default", "default"), {"metadata": {"name": "default"}}
    )
    yield registry
    pump.cancel()
    store.close()
