# SPDX-License-Identifier: Apache-2.0
"""What is left on the machine of a pod whose sandbox and volumes are gone: cgroup, logs, directory.

The pod's directory goes last. It is made before anything else of the pod, so whoever finds one that
belongs to no pod knows that something may be left, whatever step an agent died at; the UID is all
that is needed to find the rest.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from kedge import faults

if TYPE_CHECKING:
    from kedge.edge.kubelet.resources.cgroups import Cgroups
    from kedge.edge.kubelet.tools import Paths


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
