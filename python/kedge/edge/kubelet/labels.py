# SPDX-License-Identifier: Apache-2.0
"""The labels and annotations on sandboxes and containers by which they are found again.

The kubelet's own names, so that crictl and monitoring know whose they are.
"""

from __future__ import annotations

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
MANAGED_BY = "kedge.io/node"
"""On every sandbox of ours, with the node's name: what lacks it is somebody else's."""
DEFINITION = "io.kubernetes.container.hash"
IMAGE = "kedge.io/image"
"""On containers: the image as the pod names it; a runtime may only know what that led to."""
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
GRACE_SECONDS = "io.kubernetes.pod.terminationGracePeriod"
"""On sandboxes: how long its containers have to end, when the pod's object is there no more."""
