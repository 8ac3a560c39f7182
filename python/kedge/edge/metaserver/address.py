# SPDX-License-Identifier: Apache-2.0
"""An address of this machine's own that every pod reaches: one of ``lo``, so that no interface is made.

A packet that a pod sends there goes to its gateway, the node, which takes what is for any of its
addresses. The kernel is asked by netlink (``rtnetlink(7)``): two messages, no program.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "address"
"""The record's name, in the MetaServer's directory."""
_NEW, _DELETE = 20, 21
"""RTM_NEWADDR, RTM_DELADDR."""
_REQUEST_ACKNOWLEDGED = 0x1 | 0x4
_EXCLUSIVELY = 0x200 | 0x400
_ADDRESS, _LOCAL = 1, 2
_SCOPE_HOST = 254
_HEADER = struct.Struct("=IHHII")
_INTERFACE = "lo"


def family_of(address: str) -> int:
    """The address family.

    Raises:
        ValueError: it is no IP address.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return family
    raise ValueError(f"wanted an IP address, got: {address!r}")


def add(address: str) -> bool:
    """Gives the machine an address; whether it did not have it before.

    Raises:
        OSError: the kernel refuses, for want of rights most likely.
    """
    try:
        _ask(_NEW, _REQUEST_ACKNOWLEDGED | _EXCLUSIVELY, address)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def remove(address: str) -> None:
    """Takes it away again; that it is not there is no error.

    Raises:
        OSError: the kernel refuses.
    """
    try:
        _ask(_DELETE, _REQUEST_ACKNOWLEDGED, address)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise


def take(address: str, record: Path) -> bool:
    """Adds an address and notes that it is this node's to take back; whether it is.

    Args:
        address: which.
        record: the file that says so, also after a crash.

    Raises:
        OSError: the kernel refuses, or the file cannot be written.
    """
    if add(address):
        record.write_text(address, "ascii")
    return noted(record) == address


def give_back(record: Path) -> None:
    """Removes the address that a record names, and the record.

    Raises:
        OSError: the kernel refuses.
    """
    address = noted(record)
    if address:
        remove(address)
    record.unlink(missing_ok=True)


def noted(record: Path) -> str:
    """The address that a record names; empty when there is none."""
    try:
        address = record.read_text("ascii")
        family_of(address)
    except (OSError, ValueError):
        return ""
    return address


def message(kind: int, flags: int, address: str, index: int) -> bytes:
    """The netlink message about an address of an interface."""
    family = family_of(address)
    raw = socket.inet_pton(family, address)
    body = struct.pack("=BBBBI", family, len(raw) * 8, 0, _SCOPE_HOST, index)
    for attribute in (_LOCAL, _ADDRESS):
        body += struct.pack("=HH", 4 + len(raw), attribute) + raw
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def _ask(kind: int, flags: int, address: str) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(message(kind, flags, address, socket.if_nametoindex(_INTERFACE)))
        answer = kernel.recv(4096)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    if code:
        raise OSError(-code, f"{_INTERFACE}: {address}: {os.strerror(-code)}")
