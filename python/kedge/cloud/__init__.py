# SPDX-License-Identifier: Apache-2.0
"""The role beside a cluster: nodes join here, get their views from here and report here.

``app`` assembles; each module does one thing: ``authority`` (CA and keys in Secrets), ``joining``,
``renewal``, ``sessions`` (which nodes are connected here), ``reports`` (what nodes say, to the
API), ``leases``, ``pod_tokens``, ``mirroring`` (which kinds are mirrored). All state is in the
Kubernetes API or can be had from it again, so any replica can take over from another.
"""
