# SPDX-License-Identifier: Apache-2.0
"""The link between cloud and edge, both ends: server, client, certificates, tokens."""
