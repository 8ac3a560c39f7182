# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API on the node, for its pods: the API server's own HTTP side over the node's replica.

``server`` arranges it, ``identity`` has the node's authority and keys, ``address`` the address that pods
reach, ``operator`` the kubeconfig for root, ``tokens`` signs for pods while the cloud is away, ``objects`` shows pods both, ``documents`` are
written before the agent starts. What is answered, and how, is in ``rust/kedge-core/src/kubeapi``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kedge.edge.config import EdgeConfig
    from kedge.edge.metaserver.server import MetaServer
    from kedge.store import Store


def open_metaserver(config: EdgeConfig, store: Store) -> MetaServer | None:
    """The node's own API server, if the configuration wants one.

    Raises:
        ConfigError: its keys or documents cannot be used.
    """
    if not config.metaserver:
        return None
    from kedge.edge.metaserver.server import MetaServer  # noqa: PLC0415 - nodes without one save it

    return MetaServer(config, store)
