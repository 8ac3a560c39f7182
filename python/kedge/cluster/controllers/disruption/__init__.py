# SPDX-License-Identifier: Apache-2.0
"""PodDisruptionBudgets: how many pods may be evicted now.

``plan`` decides, ``controller`` acts. The API server's eviction takes from what is allowed.
"""
