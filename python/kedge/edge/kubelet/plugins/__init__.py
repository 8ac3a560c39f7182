# SPDX-License-Identifier: Apache-2.0
"""The node's plugins: where CSI drivers and device plugins come, and how they are called.

Rust carries the gRPC (``face``); here is decided what is asked and answered. A directory is watched and
a socket listens from the start; everything else is imported when the first plugin comes.
"""
