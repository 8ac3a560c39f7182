# SPDX-License-Identifier: Apache-2.0
"""Cpu and memory: quantities for Linux, the tree of cgroups, resizing in place."""
