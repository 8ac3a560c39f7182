# SPDX-License-Identifier: Apache-2.0
"""The embedded control plane: an API server over the store, its controllers, the scheduler.

``app.py`` puts them together; ``apiserver`` decides writes (reads are answered in Rust),
``controllers`` has a file per thing reconciled, ``scheduler`` binds pods. Not here: anything about
nodes' links (``kedge.cloud``), which reaches the API like every other client.
"""
