# SPDX-License-Identifier: Apache-2.0
"""What the node is and has, and what it says of itself."""
