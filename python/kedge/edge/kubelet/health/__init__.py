# SPDX-License-Identifier: Apache-2.0
"""Whether a container is well, by its probes, and what it is told at its start and end, by its hooks."""
