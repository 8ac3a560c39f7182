# SPDX-License-Identifier: Apache-2.0
"""The kubelet server: what the API server asks of this node, through the link.

Rust carries connections, log files and streams (``rust/kedge-core/src/kubelet``); here is decided
what a path means, which container it is about and whether it can be done. Who may ask is the API
server's to say: only one with a certificate of the cluster gets through the hub to this node.
"""
