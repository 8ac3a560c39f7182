# SPDX-License-Identifier: Apache-2.0
"""Pods from a directory of this node, and the mirror pods that show them in the API."""
