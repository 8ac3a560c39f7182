# SPDX-License-Identifier: Apache-2.0
"""What of a pod's spec kedge honours, and whether this node takes the pod at all."""
