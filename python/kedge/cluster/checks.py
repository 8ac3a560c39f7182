# SPDX-License-Identifier: Apache-2.0
"""What may be wrong with a cluster's directory at a start, said with a way on before anything is changed.

What a person must put right ends the role for good (``ConfigError``); what may pass by itself, a full disk or
a clock that is not set yet, ends it with an error after which it is started again.
"""

from __future__ import annotations

import logging
import os
import pwd
import time
from typing import TYPE_CHECKING

from kedge.errors import (
    CertificateError,
    ConfigError,
    Corrupt,
    Forbidden,
    Full,
    Invalid,
    KedgeError,
    Rejected,
)
from kedge.hub import certificates

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kedge.store import Store

ROOM = 16 << 20
"""A start with less than this on the disk would stop half-way."""
STORE_FILES = frozenset({"data.mdb", "lock.mdb", "kedge.lock"})
OWN = frozenset({"store", "pki", "openapi", "kubeconfig", "cloud.kubeconfig", "backup.sock"})
"""What is a cluster's in its directory; any of it says that the directory is one."""
NOBODYS = frozenset({"lost+found"})

log = logging.getLogger(__name__)


def directory(path: Path) -> None:
    """Looks at a cluster's directory; one that is absent is fine.

    Raises:
        ConfigError: it is not a directory, not ours, or holds something else.
        Full: its disk is full.
    """
    try:
        found = path.exists() and _contents(path)
        room = os.statvfs(_present(path))
    except OSError as error:
        hint = f"run it as the owner of {path}, or choose another directory"
        raise wrong(f"{path}: cannot be used: {error.strerror}", hint) from error
    if found and (problem := foreign(*found)):
        hint = "choose an empty directory, or that of a kedge cluster"
        raise wrong(f"{path}: {problem}", hint)
    if room.f_bavail * room.f_frsize < ROOM:
        what = f"{path}: its disk is full: {room.f_bavail * room.f_frsize} bytes are free"
        raise Full(f"{what}, {ROOM} are needed\nhint: make room there")


def _contents(path: Path) -> tuple[set[str], set[str]]:
    _check_owner(path)
    names = {entry.name for entry in path.iterdir()}
    store = path / "store"
    if not store.exists():
        return names, set()
    _check_owner(store)
    inside = {entry.name for entry in store.iterdir()}
    for name in inside & STORE_FILES:
        _check_owner(store / name)
    return names, inside


def foreign(names: Collection[str], store: Collection[str]) -> str:
    """What is there that no kedge made; empty for nothing. Pure.

    Args:
        names: in the cluster's directory.
        store: in its store's, if there is one.
    """
    others = sorted(set(store) - STORE_FILES)
    if others:
        return f"its store holds files of something else: {', '.join(others)[:200]}"
    others = sorted(name for name in {*names} - NOBODYS if not name.startswith("."))
    if others and not OWN.intersection(names):
        return f"no cluster is there, but files of something else: {', '.join(others)[:200]}"
    return ""


def _check_owner(path: Path) -> None:
    """Root may use what is another's, and is told; others may not."""
    owner, mine = path.stat().st_uid, os.geteuid()
    if owner == mine:
        return
    what = f"{path}: belongs to {_user(owner)}, and this runs as {_user(mine)}"
    if mine == 0:
        log.warning("%s", what)
        return
    raise wrong(what, f"run it as {_user(owner)}, or give it away: chown -R {_user(mine)} DIR")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _present(path: Path) -> Path:
    """The directory, or what of its path is there."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())


def unusable(path: Path, error: KedgeError) -> KedgeError:
    """Why a store does not open, with a way on."""
    match error:
        case Corrupt():
            what = f"the cluster's store is damaged: {error}"
            hint = (
                f"move {path.parent} aside and bring the cluster back from a backup (kedge restore), or move "
                f"only {path} aside to begin with an empty cluster; running containers stay as they are"
            )
        case Invalid():
            what = str(error)
            hint = "run the kedge that wrote it or a newer one, or restore a backup of this one"
        case Rejected():
            what = str(error)
            hint = "another control plane runs in this directory: stop it, or choose another"
        case Forbidden():
            what = f"cannot be used: {error}"
            hint = "give it to the user that this runs as, on a disk that can be written"
        case _:
            return error
    return wrong(f"{path}: {what}", hint)


def keys(path: Path, store: Store, *, now: float | None = None) -> None:
    """Looks at the authority that nodes and clients trust.

    Args:
        path: where the keys are.
        store: the cluster's objects.
        now: seconds since 1970.

    Raises:
        ConfigError: it is missing from a cluster that has nodes, cannot be read, or has ended.
        CertificateError: by this machine's clock it does not hold yet.
    """
    certificate = path / "ca.crt"
    missing = [name for name in ("ca.crt", "ca.key", "sa.key") if not (path / name).exists()]
    if missing and store.list("", "nodes", limit=1).items:
        names = ", ".join(str(path / name) for name in missing)
        hint = "bring them back from a backup: kedge restore into another directory"
        raise wrong(f"{names}: missing, and the cluster's nodes trust no others", hint)
    if "ca.crt" in missing:
        return
    try:
        found = certificates.inspect(certificate.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, CertificateError) as error:
        hint = "bring it back from a backup: kedge restore into another directory"
        raise wrong(f"{certificate}: cannot be read: {error}", hint) from error
    moment = time.time() if now is None else now
    if moment < found.not_before:
        what = (
            f"the clock says {_date(moment)}, before the cluster began: {_date(found.not_before)}"
        )
        raise CertificateError(f"{what}\nhint: set this machine's clock; kedge waits for it")
    if moment > found.not_after:
        what = f"{certificate}: ended at {_date(found.not_after)}, the clock says {_date(moment)}"
        raise wrong(what, "set this machine's clock if it is wrong; else a new cluster is due")


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def wrong(what: str, hint: str) -> ConfigError:
    """An error with a way on."""
    return ConfigError(f"{what}\nhint: {hint}")
