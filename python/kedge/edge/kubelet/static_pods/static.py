# SPDX-License-Identifier: Apache-2.0
"""Static pods: a directory is looked at, and its manifests are read when something in it changed.

Reading is ``static_files``'s, in a process of its own. A file that cannot be read is named in an Event of
the node; the pod that it gave before goes on, since a file may be found half written. A file that
is gone ends its pod. Loaded only where the settings name a directory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.kubelet.events import Recorder

STATIC = "static"
"""The resource in the keys of static pods: a pod of the API may have the same name."""
LOOK_SECONDS = 2.0
READ_SECONDS = 30.0
RETRY_SECONDS = 10.0
MAX_ANSWER_BYTES = 16 << 20
MAX_ENTRIES = 1000
READER = "kedge.edge.kubelet.static_pods.static_files"

_log = logging.getLogger(__name__)
Pods = dict[ObjectKey, dict[str, Any]]
Signature = tuple[tuple[str, int, int, int], ...]


class ReadFailed(Exception):  # noqa: N818 - an event, caught here
    """The reading process gave no answer."""


class StaticPods:
    """The pods of one directory.

    Args:
        directory: with a manifest per file.
        node: the node's name.
        recorder: for what is wrong with files.
        changed: gets all static pods whenever they may have changed.
    """

    def __init__(
        self, directory: str, node: str, recorder: Recorder, changed: Callable[[Pods], None]
    ) -> None:
        self._directory = directory
        self._node = node
        self._recorder = recorder
        self._changed = changed
        self._files: dict[str, dict[str, Any]] = {}
        self._seen: Signature | None = None
        self._said: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Follows the directory until cancelled."""
        while True:
            pause = LOOK_SECONDS
            signature = self._look()
            if signature != self._seen:
                try:
                    self._take(await self._read() if signature else [])
                    self._seen = signature
                except (ReadFailed, OSError, ValueError) as error:
                    self._say("", f"static pods cannot be read: {error}")
                    pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    def _look(self) -> Signature:
        """What tells whether something in the directory changed."""
        found: list[tuple[str, int, int, int]] = []
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if entry.name[0] != "." and len(found) < MAX_ENTRIES:
                        status = entry.stat()
                        found.append(
                            (entry.name, status.st_mtime_ns, status.st_size, status.st_ino)
                        )
        except OSError as error:
            self._say("", f"staticPodPath cannot be read: {self._directory}: {error.strerror}")
        return tuple(sorted(found))

    async def _read(self) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", READER, self._directory, self._node]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(READ_SECONDS):
                answer = await _bounded(process.stdout)
                code = await process.wait()
        except TimeoutError:
            raise ReadFailed(f"no answer within {READ_SECONDS:.0f}s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise ReadFailed(f"the reader ended with code {code}")
        found: list[dict[str, Any]] = json.loads(answer)
        return found

    def _take(self, entries: list[dict[str, Any]]) -> None:
        present = {one["file"] for one in entries}
        files = {name: pod for name, pod in self._files.items() if name in present}
        for one in entries:
            if "pod" in one:
                files[one["file"]] = one["pod"]
            text = one.get("error") or one.get("warning")
            if text:
                self._say(one["file"], text)
        self._files = files
        self._said = {said for said in self._said if said[0] in present}
        metadata = [(pod["metadata"], pod) for pod in files.values()]
        self._changed(
            {ObjectKey("", STATIC, one["namespace"], one["name"]): pod for one, pod in metadata}
        )

    def _say(self, file: str, text: str) -> None:
        """An Event and a line in the log, once while it lasts."""
        if (file, text) not in self._said:
            self._said.add((file, text))
            where = f"{self._directory}/{file}: " if file else ""
            self._recorder.node("InvalidStaticPod", f"{where}{text}", warning=True)
            _log.warning("static pod %s%s", where, text)


async def _bounded(stream: asyncio.StreamReader | None) -> bytes:
    """All that comes, if it is not too much."""
    parts, size = [], 0
    while stream is not None and (part := await stream.read(1 << 16)):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise ReadFailed(f"more than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
