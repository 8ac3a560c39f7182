# SPDX-License-Identifier: Apache-2.0
"""Which kinds the cloud mirrors: what views are made of, and no more.

Unscheduled pods are no node's business. The Secrets of kedge's own namespace (CA, keys, join
tokens) never enter the mirror, so no view could ever hold them.
"""

from __future__ import annotations

from kedge.hub import tokens
from kedge.kube import MirrorRow

ROWS = (
    MirrorRow("", "nodes"),
    MirrorRow("", "pods", fields="spec.nodeName!="),
    MirrorRow("", "configmaps"),
    MirrorRow("", "secrets", fields=f"metadata.namespace!={tokens.NAMESPACE}"),
    MirrorRow("", "serviceaccounts"),
    MirrorRow("", "persistentvolumeclaims"),
    MirrorRow("", "persistentvolumes"),
    MirrorRow("certificates.k8s.io", "clustertrustbundles", "v1beta1", optional=True),
    MirrorRow("node.k8s.io", "runtimeclasses", optional=True),
    MirrorRow("rbac.authorization.k8s.io", "clusterroles", optional=True),
    MirrorRow("rbac.authorization.k8s.io", "clusterrolebindings", optional=True),
    MirrorRow("rbac.authorization.k8s.io", "roles", optional=True),
    MirrorRow("rbac.authorization.k8s.io", "rolebindings", optional=True),
    MirrorRow("storage.k8s.io", "csidrivers", optional=True),
    MirrorRow("storage.k8s.io", "volumeattachments", optional=True),
)
"""What ``kedge.kube.Mirror`` is given."""
