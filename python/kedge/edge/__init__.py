# SPDX-License-Identifier: Apache-2.0
"""The node agent: a durable replica of the node's view, and the kubelet that acts on it."""
