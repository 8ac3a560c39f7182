# SPDX-License-Identifier: Apache-2.0
"""Static pods: a directory is looked at, and its manifests are read when something in it changed.

Reading is ``static_files``'s, in a process of its own. A file that cannot be used is named in an Event of
the node and counted. The pod that it gave before goes on for a while, since a file may be found half written,
and then ends, as with the kubelet (decision 0146); a file that is gone ends its pod at once. A directory that
cannot be read, other than one that is absent, changes nothing. Loaded only where the settings name a directory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from kedge import faults, metrics
from kedge.api.keys import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.kubelet.events import Recorder

STATIC = "static"
"""The resource in the keys of static pods: a pod of the API may have the same name."""
LOOK_SECONDS = 2.0
READ_SECONDS = 30.0
RETRY_SECONDS = 10.0
PATIENCE_SECONDS = 20.0
"""How long a file may be bad before its pod ends: so often a kubelet reads all files anew."""
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
        self._bad: dict[str, float] = {}
        """Files that cannot be used, and since when on the loop's clock."""
        self._seen: Signature | None = None
        self._said: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Follows the directory until cancelled."""
        while True:
            pause = LOOK_SECONDS
            signature = self._look()
            if signature is not None and (signature != self._seen or self._is_patience_over()):
                try:
                    self._take(await self._read() if signature else [])
                    self._seen = signature
                except (ReadFailed, OSError, ValueError) as error:
                    self._say("", f"static pods cannot be read: {error}")
                    pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    def _is_patience_over(self) -> bool:
        """Whether a pod runs of a file that has been bad for too long: it is read once more."""
        until = asyncio.get_running_loop().time() - PATIENCE_SECONDS
        return any(since <= until and file in self._files for file, since in self._bad.items())

    def _look(self) -> Signature | None:
        """What tells whether something in the directory changed; none if that cannot be said."""
        found: list[tuple[str, int, int, int]] = []
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if entry.name[0] != "." and len(found) < MAX_ENTRIES:
                        found.append((entry.name, *_state(entry)))
        except FileNotFoundError:
            self._say("", f"staticPodPath is not there: {self._directory}")
        except OSError as error:
            self._say("", f"staticPodPath cannot be read: {self._directory}: {error.strerror}")
            return None
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
        if __debug__:
            faults.point("static.read")
        now = asyncio.get_running_loop().time()
        present = {one["file"] for one in entries}
        files = {name: pod for name, pod in self._files.items() if name in present}
        wrong = {one["file"] for one in entries if one.get("error") or one.get("warning")}
        self._said = {said for said in self._said if said[0] in wrong or not (said[0] or present)}
        bad = {}
        for one in entries:
            file, text = one["file"], one.get("error") or one.get("warning")
            if "pod" in one:
                files[file] = one["pod"]
            else:
                bad[file] = self._bad.get(file, now)
            if text:
                self._say(file, text)
            if file in bad and file in files and bad[file] <= now - PATIENCE_SECONDS:
                name = files.pop(file)["metadata"]["name"]
                self._say(file, f"cannot be used for {PATIENCE_SECONDS:g} s now, pod {name} ends")
        self._files, self._bad = files, bad
        metrics.gauge("kedge_static_pod_files_invalid", len(bad))
        metadata = [(pod["metadata"], pod) for pod in files.values()]
        self._changed(
            {ObjectKey("", STATIC, one["namespace"], one["name"]): pod for one, pod in metadata}
        )
        if __debug__:
            faults.point("static.taken")

    def _say(self, file: str, text: str) -> None:
        """An Event and a line in the log, once while it lasts."""
        if (file, text) not in self._said:
            self._said.add((file, text))
            where = f"{self._directory}/{file}: " if file else ""
            self._recorder.node("InvalidStaticPod", f"{where}{text}", warning=True)
            _log.warning("static pod %s%s", where, text)


def _state(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    """Of one file; nothing of a link that leads nowhere, which reading will name."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino


async def _bounded(stream: asyncio.StreamReader | None) -> bytes:
    """All that comes, if it is not too much."""
    parts, size = [], 0
    while stream is not None and (part := await stream.read(1 << 16)):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise ReadFailed(f"more than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
