# SPDX-License-Identifier: Apache-2.0
"""Claims and PersistentVolumes: bound to each other, made, protected and given back.

``controller`` watches and works keys off; ``claims`` and ``volumes`` are what it does for one claim and one
volume; ``local_path`` makes volumes that are directories of nodes and has their nodes remove them.
"""
