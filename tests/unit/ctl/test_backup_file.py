# SPDX-License-Identifier: Apache-2.0
"""The form of a backup: what was written is read, and nothing else is believed."""

from __future__ import annotations

import gzip
import io
import random
import tarfile

import msgspec
import pytest

from kedge.ctl import backup_file
from kedge.ctl.backup_file import FILES, MANIFEST, STORE, Manifest, Reader, Source
from kedge.errors import Invalid

SIZES = {"pki/ca.crt": 700, "pki/ca.key": 512, "pki/sa.key": 0, STORE: 200_000}


@pytest.fixture
def sources(tmp_path):
    found = {}
    for name in FILES:
        path = tmp_path / name.replace("/", "-")
        path.write_bytes(random.Random(name).randbytes(SIZES[name]))
        found[name] = Source.of(path)
    return found


def manifest_of(sources, **changes):
    files = {name: source.part for name, source in sources.items()}
    made = {"format": 1, "kedge": "1", "taken": "now", "revision": 7, "objects": 3, "files": files}
    return Manifest(**(made | changes))


@pytest.fixture
def backup(sources):
    target = io.BytesIO()
    backup_file.write(target, manifest_of(sources), sources)
    return target.getvalue()


def read(content, directory):
    reader = Reader(io.BytesIO(content))
    for name in FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
    reader.unpack(directory)
    return reader.manifest


def archive(*entries):
    """A compressed archive of (TarInfo, content) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def encoded(manifest):
    return tarfile.TarInfo(MANIFEST), msgspec.json.encode(manifest)


def test_what_was_written_is_read(backup, sources, tmp_path):
    found = read(backup, tmp_path / "out")
    assert (found.revision, found.objects, found.size) == (7, 3, sum(SIZES.values()))
    for name, source in sources.items():
        assert (tmp_path / "out" / name).read_bytes() == source.path.read_bytes()


def test_tar_lists_it(backup):
    with tarfile.open(fileobj=io.BytesIO(backup)) as tar:
        assert tar.getnames() == [MANIFEST, *FILES]


def test_every_cut_is_noticed(backup, tmp_path):
    for number, size in enumerate(
        [0, 1, 10, 300, *range(1000, len(backup), 20_011), len(backup) - 1]
    ):
        with pytest.raises(Invalid):
            read(backup[:size], tmp_path / str(number))


def test_a_wrong_byte_is_noticed(backup, tmp_path):
    dice = random.Random(5)
    for number in range(60):
        at = dice.randrange(10, len(backup))
        bad = backup[:at] + bytes([backup[at] ^ dice.randrange(1, 256)]) + backup[at + 1 :]
        with pytest.raises(Invalid):
            read(bad, tmp_path / str(number))


def test_a_changed_file_fails_its_checksum_although_the_archive_is_sound(sources, tmp_path):
    plain = io.BytesIO()
    backup_file.write(plain, manifest_of(sources), sources)
    content = bytearray(gzip.decompress(plain.getvalue()))
    content[content.index(sources["pki/ca.key"].path.read_bytes()) + 5] ^= 1
    with pytest.raises(Invalid, match=r"pki/ca.key is not what its checksum says"):
        read(gzip.compress(bytes(content)), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "it has format 2, this kedge reads 1"),
        (
            {"files": {"../../etc/passwd": backup_file.Part(1, "0" * 64)}},
            "it holds ../../etc/passwd",
        ),
        ({"revision": -1}, "its manifest cannot be read"),
    ],
)
def test_a_manifest_is_not_believed(sources, tmp_path, changes, says):
    with pytest.raises(Invalid, match=says):
        read(archive(encoded(manifest_of(sources, **changes))), tmp_path)


def test_sizes_are_limited_before_anything_is_written(sources, tmp_path):
    huge = dict(manifest_of(sources).files) | {"pki/ca.key": backup_file.Part(1 << 40, "0" * 64)}
    with pytest.raises(Invalid, match="at most 65536 are allowed"):
        Reader(io.BytesIO(archive(encoded(manifest_of(sources, files=huge)))))
    blown = archive((tarfile.TarInfo(MANIFEST), b" " * (1 << 24)))
    with pytest.raises(Invalid, match="at most 65536 are allowed"):
        Reader(io.BytesIO(blown))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../pki/ca.crt", tarfile.REGTYPE),
        ("/etc/passwd", tarfile.REGTYPE),
        ("pki/ca.crt", tarfile.SYMTYPE),
        ("pki/ca.crt", tarfile.LNKTYPE),
        ("pki/ca.crt", tarfile.DIRTYPE),
        ("pki/ca.crt", tarfile.CHRTYPE),
    ],
)
def test_other_names_and_links_are_refused(sources, tmp_path, name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    content = sources["pki/ca.crt"].path.read_bytes() if kind == tarfile.REGTYPE else b""
    with pytest.raises(Invalid, match=r"where pki/ca.crt was expected"):
        read(archive(encoded(manifest_of(sources)), (info, content)), tmp_path / "out")
    assert not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


def test_nothing_may_follow(backup, tmp_path):
    with pytest.raises(Invalid):
        read(backup + gzip.compress(b"more"), tmp_path)


def test_other_files_are_no_backups(tmp_path):
    for number, content in enumerate([b"", b"text" * 400, gzip.compress(b"x" * 5000)]):
        with pytest.raises(Invalid):
            read(content, tmp_path / str(number))


def test_a_file_that_changes_meanwhile_fails_the_backup(sources):
    path = sources[STORE].path
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(Invalid, match="changed while it was backed up"):
        backup_file.write(io.BytesIO(), manifest_of(sources), sources)
