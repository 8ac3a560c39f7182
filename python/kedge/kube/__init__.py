# SPDX-License-Identifier: Apache-2.0
"""A client of a Kubernetes API server, embedded or real: requests, and a mirror into a store.

``client`` has the requests, ``kubeconfig`` where the server is and who we are, ``mirror`` the
replica. The work is done in Rust (``kedge_core::kube``); here are names, JSON and errors by reason.
"""

from kedge.kube.client import JSON_PATCH, MERGE, STRATEGIC, KubeClient
from kedge.kube.kubeconfig import Cluster, load
from kedge.kube.mirror import Mirror, MirrorRow

__all__ = [
    "JSON_PATCH",
    "MERGE",
    "STRATEGIC",
    "Cluster",
    "KubeClient",
    "Mirror",
    "MirrorRow",
    "load",
]
