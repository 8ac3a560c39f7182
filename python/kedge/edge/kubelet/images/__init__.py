# SPDX-License-Identifier: Apache-2.0
"""Images on the node: pulling them, credentials for it, and saying how far a pull is."""
