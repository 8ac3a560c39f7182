# SPDX-License-Identifier: Apache-2.0
"""CSI on the node: drivers that register, and the volumes that they stage and publish for pods.

Nothing of it is loaded before the first driver registers or the first pod has such a volume.
"""
