# SPDX-License-Identifier: Apache-2.0
"""Runs the pods that the node's store holds, and says in the store how they are.

The package ``pod`` decides and is pure; ``pods`` has a worker per pod UID that observes, plans, acts and
reports; every other package is one concern. Nothing here talks to the cloud.
"""
