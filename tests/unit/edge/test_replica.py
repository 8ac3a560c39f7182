# SPDX-License-Identifier: Apache-2.0
"""The key that a node's store is sealed with."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kedge.edge.replica import SEAL_BYTES, read_seal
from kedge.errors import ConfigError


def test_a_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.seal"
    key = read_seal(path)
    assert len(key) == SEAL_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_seal(path) == key


def test_a_key_that_could_not_be_kept_is_no_key_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.seal"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(ConfigError, match="No space left"):
            read_seal(path)
    assert not path.exists()
    assert len(read_seal(path)) == SEAL_BYTES


def test_what_is_no_key_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "node.seal"
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="wanted a key of 32 bytes: 5"):
        read_seal(path)
    assert path.read_bytes() == b"short"
