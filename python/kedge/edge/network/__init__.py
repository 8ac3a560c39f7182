# SPDX-License-Identifier: Apache-2.0
"""A pod network of kedge's own, for nodes that have none: a bridge, written down as a CNI network.

``conflist`` says what is written (pure), ``bridge`` writes it where the runtime looks, once it has found
that nothing else is there and nothing is missing. The runtime and its CNI plugins do the rest. Only
agents with ``network: bridge`` load this package.
"""
