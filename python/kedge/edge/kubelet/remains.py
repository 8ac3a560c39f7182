# SPDX-License-Identifier: Apache-2.0
"""What is left on the machine of a pod whose sandbox and volumes are gone: cgroup, logs, directory.

The pod's directory goes last. It is made before anything else of the pod, so whoever finds one that
belongs to no pod knows that something may be left, whatever step an agent died at; the UID is all
that is needed to find the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from typing import TYPE_CHECKING

from kedge import faults
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Collection

    from kedge.edge.kubelet.resources.cgroups import Cgroups
    from kedge.edge.kubelet.tools import Paths, VolumeSource

AGAIN_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Remains:
    """What is left of pods that this node has no more.

    Args:
        paths: where pods are.
        cgroups: the node's, if it has any.
        volumes: the node's.
    """

    def __init__(self, paths: Paths, cgroups: Cgroups | None, volumes: VolumeSource) -> None:
        self._paths = paths
        self._cgroups = cgroups
        self._volumes = volumes
        self._removing: set[str] = set()

    def of_others(self, known: Collection[str]) -> set[str]:
        """UIDs of pods that have a directory or volumes, are not known, and are not being removed."""
        found = set(self._volumes.left_over())
        with contextlib.suppress(FileNotFoundError):
            found.update(one.name for one in self._paths.pods.iterdir())
        return found.difference(known, self._removing)

    async def remove(self, uid: str) -> None:
        """Removes it; what cannot be removed now is found again later."""
        if uid in self._removing:
            return
        self._removing.add(uid)
        try:
            await self._volumes.remove(uid)
            remove(self._paths, self._cgroups, uid)
        except (KedgeError, OSError) as error:
            _log.warning("what is left of pod uid=%s cannot be removed: %s", uid, error)
            await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._removing.discard(uid)


def remove(paths: Paths, cgroups: Cgroups | None, uid: str) -> None:
    """Removes it; what is not there is no matter."""
    if cgroups is not None:
        cgroups.remove(uid)
    if __debug__:
        faults.point("pod.cgroup.removed")
    if paths.logs.is_dir():
        for directory in [one for one in paths.logs.iterdir() if one.name.endswith(f"_{uid}")]:
            shutil.rmtree(directory, ignore_errors=True)
    if __debug__:
        faults.point("pod.logs.removed")
    shutil.rmtree(paths.pod(uid), ignore_errors=True)
    if __debug__:
        faults.point("pod.directory.removed")
