# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole, and small ones that are read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kedge.files import keep_names, read_text, write_whole


@pytest.fixture(autouse=True)
def _usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("content", "wanted"), [("grün\n", "grün\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")]
)
def test_text_and_bytes_are_there_and_nothing_beside_them(
    tmp_path: Path, content: str | bytes, wanted: bytes
) -> None:
    path = tmp_path / "a.json"
    write_whole(path, content)
    keep_names(tmp_path)
    assert path.read_bytes() == wanted
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_its_owners_alone_unless_said_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("anybody's")
    path.chmod(0o666)
    write_whole(path, "secret")
    assert path.stat().st_mode & 0o777 == 0o600
    write_whole(path, "public", 0o644)
    assert path.stat().st_mode & 0o777 == 0o644
    os.umask(0o077)
    write_whole(path, "public", 0o644)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_beside_it_lends_neither_content_nor_mode(tmp_path: Path) -> None:
    path, left = tmp_path / "a", tmp_path / "a.new"
    left.write_text("more than what is written now")
    left.chmod(0o666)
    write_whole(path, "short")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("short", 0o600)
    assert not left.exists()


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / "a.new").symlink_to(other)
    write_whole(tmp_path / "a", "content")
    assert other.read_text() == "untouched"
    assert (tmp_path / "a").read_text() == "content"
    assert not (tmp_path / "a").is_symlink()


def test_the_old_content_stays_when_the_new_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_whole(path, "old")

    def full(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == len("new"), "all is written before it is kept"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    write_whole(path, "newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "absent" / "a", "content")
    assert str(caught.value.filename) == str(tmp_path / "absent" / "a.new")


def test_what_is_read_is_bounded_and_an_absent_file_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("grün\xff".encode("latin-1") + b"more")
    assert read_text(path, 5) == "gr\ufffdn\ufffd"
    assert read_text(tmp_path / "absent", 5) == ""
    assert read_text(tmp_path, 5) == ""
