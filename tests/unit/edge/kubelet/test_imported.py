# SPDX-License-Identifier: Apache-2.0
"""The record of imported images: whole files, and nothing else counts."""

from __future__ import annotations

import pytest

from kedge.edge.kubelet.images.imported import DIRECTORY, Imported

ONE, OTHER = (f"sha256:{letter * 64}" for letter in "ab")


def test_what_was_imported_is_kept_until_it_is_gone(tmp_path):
    imported = Imported(tmp_path)
    assert imported.ids() == set()
    imported.add(ONE, ["example.com/one:1"])
    imported.add(OTHER, ["example.com/other:1"])
    imported.add(ONE, ["example.com/one:1", "example.com/one:2"])
    assert Imported(tmp_path).ids() == {ONE, OTHER}
    assert (tmp_path / DIRECTORY / ONE).read_text() == "example.com/one:1\nexample.com/one:2\n"
    imported.drop(ONE)
    imported.drop(ONE)
    assert Imported(tmp_path).ids() == {OTHER}


def test_files_that_name_no_image_count_for_nothing(tmp_path):
    imported = Imported(tmp_path)
    imported.add(ONE, [])
    for name in (f"{OTHER}.new", "sha256:short", "readme"):
        (tmp_path / DIRECTORY / name).write_text("")
    assert imported.ids() == {ONE}


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "sha256:" + "A" * 64, f"{ONE}.new"])
def test_only_an_id_is_written(tmp_path, wrong):
    with pytest.raises(ValueError, match="wanted sha256: and 64 hex digits, got"):
        Imported(tmp_path).add(wrong, [])
    assert not (tmp_path / DIRECTORY).exists()


def test_a_record_that_cannot_be_read_is_said(tmp_path, caplog):
    (tmp_path / DIRECTORY).write_text("no directory")
    assert Imported(tmp_path).ids() == set()
    assert "cannot be read: Not a directory" in caplog.text
