# SPDX-License-Identifier: Apache-2.0
"""A disk that is really full: a small tmpfs under the store, and under a running control plane."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.api.keys import ObjectKey
from kedge.errors import Full
from kedge.store import Store, put
from tests.rig.api import Api, Failed
from tests.rig.control import cluster
from tests.rig.mounts import unmount_below

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SIZE_MIB = 24
TEXT = "x" * 20_000
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
MOST = 20 * SIZE_MIB * (1 << 20) // len(TEXT)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small file system of its own, with a file that can be removed to make space."""
    with tempfile.TemporaryDirectory(prefix="kedge-full-") as outer:
        directory = Path(outer) / "disk"
        directory.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "kedge-test", str(directory)]
        subprocess.run(command, check=True)
        try:
            (directory / "ballast").write_bytes(bytes(8 << 20))
            yield directory
        finally:
            unmount_below(Path(outer))


def test_a_store_on_a_full_disk_refuses_and_goes_on_when_there_is_space(disk: Path) -> None:
    async def scenario() -> None:
        store = Store.open(disk / "store", mode="primary")
        pump = asyncio.get_running_loop().create_task(store.run())
        written: list[str] = []

        async def write(name: str) -> None:
            key = ObjectKey("", "configmaps", "default", name)
            value = json.dumps({"metadata": {"name": name}, "data": {"text": TEXT}})
            await store.commit([put(key, value.encode())])
            written.append(name)

        def held() -> list[str]:
            return [item.key.name for item in store.list("", "configmaps").items]

        async def fill() -> None:
            for number in range(MOST):
                await write(f"a-{number:05d}")

        with pytest.raises(Full, match="no space on its disk"):
            await fill()
        assert written, "there was room at first"
        assert held() == written, "what was acknowledged is there, what was refused is not"
        with pytest.raises(Full):
            await write("still-full")
        (disk / "ballast").unlink()
        await write("b-after")
        assert held() == written
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        store.close()
        again = Store.open(disk / "store", mode="primary")
        assert [item.key.name for item in again.list("", "configmaps").items] == written
        again.close()

    asyncio.run(scenario())


def test_a_control_plane_on_a_full_disk_answers_507_and_goes_on_when_there_is_space(
    disk: Path,
) -> None:
    with cluster(disk) as kubeconfig:
        api = Api(kubeconfig)
        written = []

        def write(name: str) -> None:
            api.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": {"text": TEXT}})
            written.append(name)

        def fill() -> None:
            for number in range(MOST):
                write(f"a-{number:05d}")

        with pytest.raises(Failed) as refused:
            fill()
        assert refused.value.code == 507, refused.value
        assert "no space on its disk" in str(refused.value)
        assert written, "there was room at first"
        held = {one["metadata"]["name"] for one in api.get(CONFIG_MAPS)["items"]}
        assert held >= set(written), "reads go on and miss nothing"
        (disk / "ballast").unlink()
        write("b-after")
        held = {one["metadata"]["name"] for one in api.get(CONFIG_MAPS)["items"]}
        assert held >= set(written)
        api.close()
