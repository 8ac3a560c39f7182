# SPDX-License-Identifier: Apache-2.0
"""kedge: Kubernetes at the edge, one object store that replicates.

Roles: ``kedge.cluster`` (embedded control plane), ``kedge.cloud`` (the side beside a cluster) and
``kedge.edge`` (the node agent). ARCHITECTURE.md says which package holds what. Importing this
package loads nothing else.
"""
