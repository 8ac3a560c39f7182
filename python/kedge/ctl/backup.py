# SPDX-License-Identifier: Apache-2.0
"""``kedge backup``: all that a cluster needs to go on elsewhere, in one file.

The store is copied by the control plane that has it open, or read from a stopped one. The copy is then
checked page by page like any store before it is opened, so a backup that was made can be restored. Beside
the store go the keys that nodes, clients and tokens trust. What a start makes anew stays out.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.cluster import copying
from kedge.ctl import backup_file
from kedge.ctl.backup_file import FILES, STORE, Manifest, Source
from kedge.ctl.failure import Failure
from kedge.errors import Corrupt, Disconnected, Full, KedgeError, Rejected
from kedge.files import keep_names, writing_whole
from kedge.hub.certificates import VERSION
from kedge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOM = "make room there, or give a FILE on another disk"


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    manifest: Manifest
    size: int

    def line(self) -> str:
        """For a person."""
        found = self.manifest
        return f"{found.objects} objects at revision {found.revision}, {self.size} bytes"


def run(file: Path, directory: Path) -> Made:
    """Makes a backup of the cluster in a directory, and checks it; an older FILE is replaced at once.

    Args:
        file: where it goes; readable by its owner alone.
        directory: of ``kedge up``, or of ``python -m kedge.cluster``.

    Raises:
        Failure: there is no cluster, its keys or store are damaged, or there is no room.
    """
    cluster, file = find(directory), file.absolute()
    if file.is_dir():
        raise Failure("IsDirectory", f"{file} is a directory", "give the name of a file in it")
    try:
        with _scratch(file) as scratch:
            _copy_store(cluster, scratch)
            return _write(file, cluster, scratch)
    except Full as error:
        raise Failure("DiskFull", f"{file}: {error}", ROOM) from error
    except (PermissionError, FileNotFoundError) as error:
        what = f"{error.filename or cluster}: {error.strerror}"
        hint = "run it as root or the control plane's user; the cluster must have its keys"
        raise Failure("NoAccess", what, hint) from error
    except OSError as error:
        name = error.filename or file
        raise Failure("CannotWrite", f"{name}: {error.strerror or error}", ROOM) from error


def find(directory: Path) -> Path:
    """The cluster's own directory.

    Raises:
        Failure: there is none.
    """
    for found in (directory / "cluster", directory):
        if (found / STORE).exists():
            return found
    what = f"no cluster in {directory}"
    raise Failure("NoCluster", what, "give the directory of kedge up: --dir")


def _copy_store(cluster: Path, scratch: Path) -> None:
    descriptor = os.open(scratch / "data.mdb", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if not copying.request(cluster, descriptor):
            _copy_stopped(cluster / "store", descriptor)
    except Disconnected as error:
        raise Failure("NoCopy", str(error), "its log says more") from error
    finally:
        os.close(descriptor)


def _copy_stopped(path: Path, descriptor: int) -> None:
    try:
        store = Store.open(path, mode="primary")
    except Rejected as error:
        what = f"{path} is in use, and its owner does not answer"
        raise Failure("StoreInUse", what, "try again when it has started") from error
    except Corrupt as error:
        hint = "keep the backups that there are: kedge restore"
        raise Failure(error.reason, f"{path}: {error}", hint) from error
    try:
        store.copy_to(descriptor)
    finally:
        store.close()


def _write(file: Path, cluster: Path, scratch: Path) -> Made:
    revision, objects = _look(scratch)
    sources = {
        name: Source.of(scratch / "data.mdb" if name == STORE else cluster / name) for name in FILES
    }
    manifest = Manifest(
        format=backup_file.FORMAT,
        kedge=VERSION,
        taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        revision=revision,
        objects=objects,
        files={name: source.part for name, source in sources.items()},
    )
    with writing_whole(file) as target:
        os.fchmod(target.fileno(), 0o600)
        backup_file.write(target, manifest, sources)
    keep_names(file.parent)
    return Made(manifest, file.stat().st_size)


def _look(scratch: Path) -> tuple[int, int]:
    """Opens the copy, which checks it: its revision and how many objects it has."""
    try:
        store = Store.open(scratch, mode="primary")
    except KedgeError as error:
        raise Failure("BadCopy", f"the copy cannot be used: {error}", "try again") from error
    try:
        stats = store.stats()
    finally:
        store.close()
    return stats["revision"], stats["objects"]


@contextmanager
def _scratch(file: Path) -> Iterator[Path]:
    """A directory beside the file, of one command at a time; what a killed one left goes."""
    scratch = file.with_name(f".{file.name}.part")
    scratch.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure("Busy", f"another backup writes {file}", "wait for it") from error
        for left in scratch.iterdir():
            left.unlink()
        yield scratch
        shutil.rmtree(scratch)
    except Failure as failure:
        if failure.reason != "Busy":
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)
