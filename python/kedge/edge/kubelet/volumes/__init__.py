# SPDX-License-Identifier: Apache-2.0
"""A pod's volumes on this node.

What comes from objects (configMap, secret, downwardAPI, projected) is rendered by pure functions
(``payloads``) and put in place by an atomic swap of one symbolic link (``swap``), so that a container
sees the old files or the new ones, never a mixture. They lie in memory: one tmpfs of the node holds
them for all pods, so that no Secret reaches the disk and no pod costs a mount. emptyDir is a directory,
or a tmpfs of its own with ``medium: Memory``; hostPath is checked and used as it is. Each kind is a
``Source`` (``sources``), found by ``Volumes``; other kinds plug in.

Everything is idempotent: what is there and right is left alone, also after a crash or a reboot.
"""

from __future__ import annotations

from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import Prepared, Request, Source
from kedge.edge.kubelet.volumes.volumes import Volumes

__all__ = ["Prepared", "Request", "Source", "VolumeError", "Volumes"]
