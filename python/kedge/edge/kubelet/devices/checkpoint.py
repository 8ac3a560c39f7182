# SPDX-License-Identifier: Apache-2.0
"""Which container has which devices, on disk before anybody acts on it.

One small JSON file, replaced as a whole: the same devices belong to the same container after a crash
or a reboot, and what a plugin said of them is not asked again. Only pods that have devices are in it.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from kedge.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1
MAX_BYTES = 16 << 20

_log = logging.getLogger(__name__)

Held = dict[str, Any]
"""``ids``: the devices; ``edits``: what their plugin wants of the container."""


class Checkpoint:
    """The file and what it says.

    Args:
        path: of the file; one that cannot be read is set aside.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pods: dict[str, dict[str, dict[str, Held]]] = {}
        self._resources: list[str] = []
        self._load()

    @property
    def resources(self) -> list[str]:
        """Resources that plugins have offered here."""
        return self._resources

    def pods(self) -> list[str]:
        """UIDs of the pods that have devices."""
        return list(self._pods)

    def of(self, uid: str, container: str) -> dict[str, Held]:
        """What a container has, by resource."""
        return self._pods.get(uid, {}).get(container, {})

    def taken(self, resource: str) -> set[str]:
        """The devices of a resource that belong to somebody."""
        return {
            device
            for containers in self._pods.values()
            for held in containers.values()
            if resource in held
            for device in held[resource]["ids"]
        }

    def held(self) -> Iterator[tuple[str, str, str, Held]]:
        """All of it: pod UID, container, resource, what it has."""
        for uid, containers in self._pods.items():
            for container, held in containers.items():
                for resource, one in held.items():
                    yield uid, container, resource, one

    def put(self, uid: str, container: str, resource: str, held: Held) -> None:
        """Gives devices to a container, durably.

        Raises:
            OSError: it is not on disk, and not given.
        """
        of_pod = self._pods.setdefault(uid, {})
        of_container = of_pod.setdefault(container, {})
        before = of_container.get(resource)
        of_container[resource] = held
        try:
            self._save()
        except OSError:
            if before is None:
                del of_container[resource]
            else:
                of_container[resource] = before
            raise

    def drop(self, uid: str) -> bool:
        """Takes everything back from a pod; whether it had anything.

        Raises:
            OSError: it is not on disk, and still the pod's.
        """
        before = self._pods.pop(uid, None)
        if before is None:
            return False
        try:
            self._save()
        except OSError:
            self._pods[uid] = before
            raise
        return True

    def know(self, resource: str) -> None:
        """Remembers that a plugin offers a resource.

        Raises:
            OSError: it is not on disk.
        """
        if resource not in self._resources:
            self._resources.append(resource)
            self._save()

    def _load(self) -> None:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(MAX_BYTES + 1))
            pods, resources = dict(found["pods"]), list(found["resources"])
            version = found["version"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._set_aside(error)
            return
        if version != VERSION:
            self._set_aside(f"version: wanted {VERSION}: {version}")
            return
        self._pods, self._resources = pods, resources

    def _set_aside(self, why: object) -> None:
        _log.error("%s cannot be read and is set aside: %s", self._path, why)
        self._path.replace(self._path.with_suffix(".damaged"))

    def _save(self) -> None:
        value = {"version": VERSION, "resources": self._resources, "pods": self._pods}
        write_whole(self._path, json.dumps(value, separators=(",", ":")))
