# SPDX-License-Identifier: Apache-2.0
"""What is kept out of the agent's process: ``ssl``, and the compressors that ``shutil`` looks for.

asyncio imports ``ssl`` and never uses it here: all TLS is in Rust. The stub has the names that
asyncio looks at when it is imported; anything that really wants TLS from Python fails at once, with
the reason. Only the agent's own entry point may install it.
"""

from __future__ import annotations

import sys
from types import ModuleType


class _NoTLS:
    """Stands where a class of ``ssl`` would."""

    def __init__(self, *_: object, **__: object) -> None:
        # Meant to stay so: the agent's TLS is in Rust, and the real ``ssl`` costs memory.
        raise NotImplementedError("no TLS in the agent's Python: use the extension")


class _Error(OSError):
    """Never raised; asyncio names it in except clauses."""


def install() -> None:
    """Puts the stub in place of ``ssl``.

    Raises:
        RuntimeError: the real one is loaded already.
    """
    if "ssl" in sys.modules:
        raise RuntimeError("ssl is loaded already: install the stub before asyncio")
    stub = ModuleType("ssl", "A stub: the agent's TLS is in Rust.")
    for name in ("SSLContext", "SSLObject", "SSLSocket", "MemoryBIO"):
        setattr(stub, name, _NoTLS)
    for name in (
        "SSLError",
        "CertificateError",
        "SSLWantReadError",
        "SSLSyscallError",
        "SSLZeroReturnError",
    ):
        setattr(stub, name, _Error)
    sys.modules["ssl"] = stub
    for name in ("bz2", "lzma"):
        # None means "not to be had" to the import system.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
