# SPDX-License-Identifier: Apache-2.0
"""What is known of one pod, what to do next for it, and what its status says; pure.

Nothing here talks to the runtime, the store or the cloud.
"""
