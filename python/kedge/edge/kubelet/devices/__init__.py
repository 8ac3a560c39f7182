# SPDX-License-Identifier: Apache-2.0
"""Device plugins v1beta1: what they offer, who has it, and what that means for a container.

``extended`` is always loaded; everything else when the first plugin registers or a checkpoint says that
pods have devices.
"""
