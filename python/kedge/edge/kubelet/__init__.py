# SPDX-License-Identifier: Apache-2.0
"""Runs the pods that the node's store holds, and says in the store how they are.

``plan`` and ``status`` decide and are pure; ``pods`` has a worker per pod UID that observes, plans,
acts and reports; everything else is one concern each. Nothing here talks to the cloud.
"""
