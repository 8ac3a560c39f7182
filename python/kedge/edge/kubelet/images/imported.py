# SPDX-License-Identifier: Apache-2.0
"""Which images were imported from archives: a file each, named by the image's id.

``kedge image import`` writes them, image collection keeps what they name. A runtime may pin images
itself, but containerd before 1.7 does not tell. A file is written whole and holds the image's names,
one a line, for people; nothing reads them. An image that the runtime no longer has loses its file at the
next collection (decision 0145).
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from typing import TYPE_CHECKING

from kedge.files import keep_names, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DIRECTORY = "imported-images"
"""In the node's directory."""
MOST = 4096
"""So many files are looked at; a node does not have more images."""
_ID = re.compile(r"sha256:[0-9a-f]{64}")

_log = logging.getLogger(__name__)


class Imported:
    """What was imported on one node.

    Args:
        data: the node's directory.
    """

    def __init__(self, data: Path) -> None:
        self._directory = data / DIRECTORY

    def ids(self) -> set[str]:
        """Ids of images. What cannot be read is said, and counts as nothing imported."""
        try:
            with os.scandir(self._directory) as found:
                names = [one.name for one in itertools.islice(found, MOST)]
        except FileNotFoundError:
            return set()
        except OSError as error:
            _log.warning("%s cannot be read: %s", self._directory, error.strerror)
            return set()
        return {one for one in names if _ID.fullmatch(one)}

    def add(self, image_id: str, names: Iterable[str]) -> None:
        """Remembers an image, durably.

        Raises:
            ValueError: that is no id of an image.
            OSError: it cannot be written.
        """
        if not _ID.fullmatch(image_id):
            raise ValueError(f"id of an image: wanted sha256: and 64 hex digits, got: {image_id}")
        self._directory.mkdir(mode=0o700, exist_ok=True)
        write_whole(self._directory / image_id, "".join(f"{one}\n" for one in names))
        keep_names(self._directory)

    def drop(self, image_id: str) -> None:
        """Forgets an image that is gone."""
        try:
            (self._directory / image_id).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s stays in %s: %s", image_id, self._directory, error.strerror)
