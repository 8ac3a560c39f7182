# SPDX-License-Identifier: Apache-2.0
"""What the node's agent loads: layers are a memory budget, and each of these would break it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = Path(__file__).resolve().parents[2] / "python"

PACKAGES = {
    "kedge.aio",
    "kedge.api",
    "kedge.edge",
    "kedge.errors",
    "kedge.faults",
    "kedge.files",
    "kedge.hub",
    "kedge.logs",
    "kedge.metrics",
    "kedge.runtime",
    "kedge.store",
    "kedge._core",
}
"""All of kedge that the agent may load."""
FORBIDDEN = {
    "_hashlib": "OpenSSL's libcrypto: 4 MB",
    "_ssl": "OpenSSL: 5 MB",
    "_lzma": "shutil does without",
    "_bz2": "shutil does without",
    "_decimal": "quantities are integers",
    "argparse": "settings are read before",
    "email": "nothing here reads mail headers",
    "http": "HTTP is in Rust; probes write theirs",
    "lmdb": "the store is in Rust",
    "msgspec": "settings are read before",
    "orjson": "the cluster's",
    "sqlite3": "the store is in Rust",
    "uvloop": "the cluster's",
    "xml": "nothing here reads XML",
    "yaml": "settings are read before",
}


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after ``code``."""
    program = (
        f"{code}\nimport sys, json; print(json.dumps([n for n, m in sys.modules.items() if m]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env={"PYTHONPATH": str(PYTHON), "PATH": "/usr/bin"},
    )
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def agent() -> set[str]:
    return loaded("from kedge.edge import slim; slim.install()\nimport kedge.edge.agent")


def test_the_agent_loads_only_its_part_of_kedge(agent: set[str]) -> None:
    mine = {name for name in agent if name.startswith("kedge.")}
    strange = {name for name in mine if ".".join(name.split(".")[:2]) not in PACKAGES}
    assert strange == set()


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_the_agent_does_not_load(name: str, agent: set[str]) -> None:
    assert not {one for one in agent if one == name or one.startswith(f"{name}.")}, FORBIDDEN[name]


def test_what_stands_for_ssl_in_the_agent_refuses_to_be_used() -> None:
    code = (
        "from kedge.edge import slim; slim.install()\n"
        "import asyncio, ssl\n"
        "try:\n    ssl.SSLContext()\nexcept NotImplementedError as error:\n    assert 'extension' in str(error)\n"
        "else:\n    raise SystemExit('it can be used')\n"
        "assert not hasattr(ssl, 'create_default_context')"
    )
    assert "asyncio" in loaded(code)


def test_the_stub_is_refused_once_the_real_ssl_is_there() -> None:
    code = (
        "import ssl\nfrom kedge.edge import slim\n"
        "try:\n    slim.install()\nexcept RuntimeError:\n    pass\nelse:\n    raise SystemExit('installed')"
    )
    assert "_ssl" in loaded(code)
