# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole, so that a crash leaves the old content or the new; and small ones that are read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_whole(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replaces a file, or makes it.

    Args:
        path: which; beside it there is ``NAME.new`` meanwhile.
        content: text is written as UTF-8.
        mode: who may use it, less what the process's umask takes; its owner alone if not given.
    """
    with writing_whole(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_whole(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """The same for what is written bit by bit; after an error the old content stays.

    Args:
        path: which; beside it there is ``NAME.new`` meanwhile.
        mode: who may use it, less what the process's umask takes.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    new.replace(path)


def keep_names(directory: Path) -> None:
    """Waits until names that were made or replaced in a directory are on the disk too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path, most: int) -> str:
    """A file's text, at the most its first ``most`` characters; empty if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except OSError:
        return ""
