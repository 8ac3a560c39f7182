# SPDX-License-Identifier: Apache-2.0
"""The API server's deciding half: admission, defaults, validation, patches, discovery documents.

``server.py`` is the face of the Rust half, which listens, authenticates, answers every read and
queues writes; ``registry.py`` is the one write path, also for controllers in the same process.
"""
