# SPDX-License-Identifier: Apache-2.0
"""The form of a backup: a compressed tar archive of a few files with known names, a manifest first.

The manifest says how large each file is and what its SHA-256 is. Reading trusts nothing: only regular files
with the names and sizes that the manifest gives, in its order, none of a name that is not in ``FILES``, none
over its limit, and nothing after them. ``tar`` can list and unpack such a file.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, BinaryIO

import msgspec

from kedge.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FORMAT = 1
MANIFEST = "manifest.json"
STORE = "store/data.mdb"
FILES = {"pki/ca.crt": 64 << 10, "pki/ca.key": 64 << 10, "pki/sa.key": 64 << 10, STORE: 1 << 40}
"""What a backup holds, in this order, with the most bytes of each."""
MAX_MANIFEST = 64 << 10
LEVEL = 6
BLOCK = tarfile.BLOCKSIZE
PIECE = 1 << 20
END = bytes(2 * BLOCK)


class Part(msgspec.Struct, frozen=True):
    """One file of a backup.

    Attributes:
        bytes: its size.
        sha256: its digest in hexadecimal.
    """

    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself.

    Attributes:
        format: of the archive; this code knows one.
        kedge: the version that made it.
        taken: when, RFC 3339.
        revision: the cluster's last change in it.
        objects: how many.
        files: by name, in their order.
    """

    format: int
    kedge: str
    taken: str
    revision: Annotated[int, msgspec.Meta(ge=0)]
    objects: Annotated[int, msgspec.Meta(ge=0)]
    files: dict[str, Part]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(part.bytes for part in self.files.values())


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be backed up, and what it was when it was looked at."""

    path: Path
    part: Part

    @classmethod
    def of(cls, path: Path) -> Source:
        """Reads a file once, for its digest."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                size += len(piece)
        return cls(path, Part(size, digest.hexdigest()))


def write(target: BinaryIO, manifest: Manifest, sources: Mapping[str, Source]) -> None:
    """Writes a backup.

    Raises:
        Invalid: a file changed since it was looked at.
    """
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=LEVEL, filename="") as packed:
        content = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        packed.write(_head(MANIFEST, len(content)))
        packed.write(content + _padding(len(content)))
        for name, source in sources.items():
            packed.write(_head(name, source.part.bytes))
            with source.path.open("rb") as file:
                size = _copy(file, packed, source.part)
            packed.write(_padding(size))
        packed.write(END)


def _copy(file: BinaryIO, packed: gzip.GzipFile, part: Part) -> int:
    digest, left = hashlib.sha256(), part.bytes
    while piece := file.read(min(PIECE, left)):
        digest.update(piece)
        packed.write(piece)
        left -= len(piece)
    if left or digest.hexdigest() != part.sha256:
        raise Invalid(f"{file.name} changed while it was backed up")
    return part.bytes


class Reader:
    """Reads a backup from its beginning to its end, once.

    Args:
        file: the backup.

    Raises:
        Invalid: it is not a backup that this kedge can read; the message says why.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._packed = gzip.GzipFile(fileobj=file, mode="rb")
        self.manifest = self._manifest()

    def _manifest(self) -> Manifest:
        size = self._next(MANIFEST)
        if size > MAX_MANIFEST:
            raise Invalid(f"its manifest has {size} bytes, at most {MAX_MANIFEST} are allowed")
        content = self._read(size)
        self._read(len(_padding(size)))
        try:
            found = msgspec.json.decode(content, type=Manifest)
        except msgspec.MsgspecError as error:
            raise Invalid(f"its manifest cannot be read: {error}") from error
        if found.format != FORMAT:
            raise Invalid(f"it has format {found.format}, this kedge reads {FORMAT}")
        if list(found.files) != list(FILES):
            raise Invalid(f"it holds {', '.join(found.files)[:200]}, wanted {', '.join(FILES)}")
        for name, part in found.files.items():
            if part.bytes > FILES[name]:
                raise Invalid(f"{name} has {part.bytes} bytes, at most {FILES[name]} are allowed")
        return found

    def unpack(self, directory: Path) -> None:
        """Writes all files below a directory, whose sub-directories are there, and verifies them.

        Raises:
            Invalid: a byte is missing, wrong, or too many.
        """
        for name, part in self.manifest.files.items():
            if self._next(name) != part.bytes:
                raise Invalid(f"{name} has another size than its manifest says")
            digest = hashlib.sha256()
            with (directory / name).open("xb") as file:
                for piece in self._pieces(part.bytes):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != part.sha256:
                raise Invalid(f"{name} is not what its checksum says")
            self._read(len(_padding(part.bytes)))
        self._expect_end()

    def _expect_end(self) -> None:
        """The end of the archive, and then of the stream, where its own checksum is looked at."""
        if self._read(len(END)) != END or self._some(1):
            raise Invalid("something follows after its last file")

    def _next(self, name: str) -> int:
        """The size of the next file, which must be this one."""
        try:
            found = tarfile.TarInfo.frombuf(self._read(BLOCK), "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeError) as error:
            raise Invalid(f"it is no archive: {error}") from error
        if found.type != tarfile.REGTYPE or found.name != name or found.size < 0:
            raise Invalid(f"there is {found.name[:100]!r} where {name} was expected")
        return found.size

    def _read(self, size: int) -> bytes:
        return b"".join(self._pieces(size))

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._some(min(size, PIECE))
            if not piece:
                raise Invalid("it ends too early: it was cut")
            size -= len(piece)
            yield piece

    def _some(self, size: int) -> bytes:
        try:
            return self._packed.read(size)
        except EOFError as error:
            raise Invalid("it ends too early: it was cut") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise Invalid(f"it cannot be unpacked: {error}") from error


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)
