# SPDX-License-Identifier: Apache-2.0
"""A pod turned into what the runtime takes: sandboxes, containers, their mounts, users, names and logs."""
