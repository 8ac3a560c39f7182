# SPDX-License-Identifier: Apache-2.0
"""Copies of the store while the control plane runs, for who may open a socket in its directory.

A caller connects to ``backup.sock`` (mode 0600), and passes the descriptor of an empty file that it made. The
store, which only this process may have open, writes a copy of one moment into it, and the answer says how it
went. So keys and Secrets pass through no API, and a caller needs no right but that on the directory. One
caller at a time, each with a limit.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import socket
import stat
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kedge.errors import Closed, Disconnected, Full, Invalid, KedgeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kedge.store import Store

NAME = "backup.sock"
QUESTION = b"copy 1\n"
GREETING_SECONDS = 5.0
COPY_SECONDS = 3600.0
MAX_ANSWER = 4096

log = logging.getLogger(__name__)


class Copies:
    """The answering end.

    Args:
        store: what is copied.
        directory: where the socket is made; the cluster's.
    """

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._path = directory / NAME
        self._listener = _listen(self._path)

    async def run(self) -> None:
        """Answers until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                connection, _ = await loop.sock_accept(self._listener)
                await asyncio.to_thread(self._serve, connection)
        finally:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                answer = self._answer(connection)
            except (OSError, KedgeError) as error:
                log.warning("a copy of the store failed: %s", error)
                reason = error.reason if isinstance(error, KedgeError) else Disconnected.reason
                answer = {"reason": reason, "message": str(error)[:1024]}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError as error:
                log.warning("nobody waits for the answer about a copy of the store: %s", error)

    def _answer(self, connection: socket.socket) -> dict[str, Any]:
        connection.settimeout(GREETING_SECONDS)
        check_peer(connection)
        question, descriptors, _, _ = socket.recv_fds(connection, len(QUESTION), 1)
        try:
            if question != QUESTION or len(descriptors) != 1:
                raise Invalid(f"wanted {QUESTION!r} and one descriptor")
            target = descriptors[0]
            check_target(target)
            self._store.copy_to(target)
            size = os.fstat(target).st_size
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        log.info("the store was copied", extra={"bytes": size})
        return {"bytes": size}


def check_peer(connection: socket.socket) -> None:
    """Refuses callers who are neither root nor this process's user.

    Raises:
        Invalid: another user calls.
    """
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", packed)
    if user not in (0, os.geteuid()):
        raise Invalid(f"user {user} may not copy the store")


def check_target(descriptor: int) -> None:
    """Refuses everything but an empty regular file open for writing.

    Raises:
        Invalid: it is something else.
    """
    status = os.fstat(descriptor)
    access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    if not stat.S_ISREG(status.st_mode) or status.st_size or access == os.O_RDONLY:
        raise Invalid("a copy goes into an empty regular file, open for writing")


def request(directory: Path, descriptor: int) -> bool:
    """The asking end: has the running control plane of a directory copy its store into a file.

    Returns:
        Whether there is one; nothing was written if not.

    Raises:
        Full: the file's disk is full.
        Disconnected: it did not answer, or not with success.
    """
    with socket.socket(socket.AF_UNIX) as connection, _short(directory / NAME) as path:
        connection.settimeout(GREETING_SECONDS)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        try:
            socket.send_fds(connection, [QUESTION], [descriptor])
            connection.settimeout(COPY_SECONDS)
            answer = _read_line(connection)
        except OSError as error:
            raise Disconnected(f"the control plane does not answer: {error}") from error
    message = str(answer.get("message", "no answer"))
    if answer.get("reason") == Full.reason:
        raise Full(message)
    if answer.get("reason") == Closed.reason:
        return False
    if "bytes" not in answer:
        raise Disconnected(f"the control plane made no copy: {message}")
    return True


def _read_line(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n") and len(data) < MAX_ANSWER:
        piece = connection.recv(MAX_ANSWER - len(data))
        if not piece:
            break
        data += piece
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _listen(path: Path) -> socket.socket:
    """Binds aside and renames, so that the socket was never open to others."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(aside) as name:
            listener.bind(name)
        aside.chmod(0o600)
        listener.listen(4)
        listener.settimeout(0)
        aside.replace(path)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of at most 107 bytes for a socket, whatever its directory is called."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
