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
)
"""What ``kedge.kube.Mirror`` is given."""
