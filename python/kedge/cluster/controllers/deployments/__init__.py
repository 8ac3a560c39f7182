# SPDX-License-Identifier: Apache-2.0
"""Deployments.

``model`` reads them; ``history``, ``rollout``, ``scaling`` and ``status`` decide; ``controller``
acts. All but the last are pure.
"""
