# SPDX-License-Identifier: Apache-2.0
"""Kubernetes nouns and the pure functions on them: keys, patches, selectors, quantities, kinds.

No sockets, no clocks, no store. Objects are plain dicts, so that unknown fields survive.
"""
