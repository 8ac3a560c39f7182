# SPDX-License-Identifier: Apache-2.0
"""The kinds that a node's view is made of, which the MetaServer reads from the store.

The objects of these that the node has are the ones that its pods, volumes and bindings need; one that it
does not have is asked of the cloud, as are all other kinds.
"""

from __future__ import annotations

RBAC = "rbac.authorization.k8s.io"
VIEW = (
    ("", "pods"),
    ("", "nodes"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("node.k8s.io", "runtimeclasses"),
    (RBAC, "clusterrolebindings"),
    (RBAC, "clusterroles"),
    (RBAC, "rolebindings"),
    (RBAC, "roles"),
    ("storage.k8s.io", "csidrivers"),
)
"""(group, plural) pairs, as ``rust/kedge-core/src/sync/view.rs`` has them."""
WAITING = (("", "events"),)
"""Kinds that the node has only until the cloud has them; listed here while the cloud is away."""
