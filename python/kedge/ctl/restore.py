# SPDX-License-Identifier: Apache-2.0
"""``kedge restore``: a cluster's directory from a backup, whole or not at all.

Everything is unpacked and verified in a directory beside, which takes the cluster's place in the end. A
cluster that is there is never touched, and none runs meanwhile: the lock of ``kedge up`` is held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kedge.cluster import restoring
from kedge.ctl.backup_file import FILES, STORE, Manifest, Reader
from kedge.ctl.failure import Failure
from kedge.errors import Invalid, KedgeError, StoreError
from kedge.files import keep_names
from kedge.hub import certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARGIN = 64 << 20
"""Room that is left on the disk, for the first writes."""
KEPT = "keep it, and try an older backup"


@dataclass(frozen=True, slots=True)
class Restored:
    """A cluster that was restored."""

    manifest: Manifest
    revision: int
    cluster: Path

    def line(self) -> str:
        """For a person."""
        found = self.manifest
        return f"{self.cluster}: {found.objects} objects as of {found.taken}, revision {found.revision}"


def run(file: Path, directory: Path) -> Restored:
    """Makes the cluster of a backup in a directory that has none.

    Raises:
        Failure: there is one already, it runs, or the backup cannot be used.
    """
    directory = directory.absolute()
    cluster, staging = directory / "cluster", directory / "cluster.restoring"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(directory), file.open("rb") as source:
            _check_empty(cluster)
            shutil.rmtree(staging, ignore_errors=True)
            try:
                manifest, revision = _stage(source, file, staging)
                staging.replace(cluster)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            keep_names(directory)
    except Invalid as error:
        raise Failure("BadBackup", f"{file}: {error}", KEPT) from error
    except OSError as error:
        raise _failure(error, file) from error
    return Restored(manifest, revision, cluster)


def _stage(source: BinaryIO, file: Path, staging: Path) -> tuple[Manifest, int]:
    reader = Reader(source)
    for name in FILES:
        (staging / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging.chmod(0o700)
    _check_room(staging, reader.manifest.size)
    before = os.umask(0o077)
    try:
        reader.unpack(staging)
    finally:
        os.umask(before)
    _check_keys(staging)
    store = (staging / STORE).parent
    try:
        revision = restoring.restart(store, reader.manifest.taken)
    except StoreError as error:
        raise Failure(error.reason, f"{file}: its store: {error}", KEPT) from error
    for name in FILES:
        with (staging / name).open("rb") as written:
            os.fsync(written.fileno())
        keep_names((staging / name).parent)
    keep_names(staging)
    return reader.manifest, revision


def _check_empty(cluster: Path) -> None:
    if cluster.is_symlink() or (
        cluster.exists() and (not cluster.is_dir() or any(cluster.iterdir()))
    ):
        what = f"{cluster} is there and not empty"
        raise Failure("NotEmpty", what, "move it aside, or give another --dir")


def _check_room(directory: Path, size: int) -> None:
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if free < size + MARGIN:
        what = f"{directory}: {free} bytes are free, {size + MARGIN} are needed"
        raise Failure("DiskFull", what, "make room there, or give another --dir")


def _check_keys(staging: Path) -> None:
    """The authority's two halves must fit; a cluster of others would let nobody in."""
    certificate = (staging / "pki/ca.crt").read_text(encoding="utf-8", errors="replace")
    key = (staging / "pki/ca.key").read_text(encoding="utf-8", errors="replace")
    try:
        fits = certificates.same_key(certificate, key)
        certificates.public_key(
            (staging / "pki/sa.key").read_text(encoding="utf-8", errors="replace")
        )
    except KedgeError as error:
        raise Invalid(f"its keys cannot be used: {error}") from error
    if not fits:
        raise Invalid("pki/ca.key does not belong to pki/ca.crt")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Holds what ``kedge up`` holds while it runs."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        what = f"a kedge runs in {directory}"
        raise Failure("AlreadyRunning", what, "stop it, or give another --dir") from error
    finally:
        os.close(lock)


def _failure(error: OSError, file: Path) -> Failure:
    name = error.filename or file
    if error.errno == errno.ENOSPC:
        return Failure("DiskFull", f"{name}: no room", "make room there, or give another --dir")
    return Failure(
        "NoAccess", f"{name}: {error.strerror or error}", "give a FILE and a --dir of yours"
    )
