# SPDX-License-Identifier: Apache-2.0
"""What the node does before it runs out of memory, disk, inodes or process ids.

``thresholds`` reads the settings, ``decide`` says which thresholds are met and which conditions
follow, ``ranking`` whom it hits first: all three are pure. ``observe`` measures, cheaply while nothing
is near; ``manager`` puts them together every ten seconds, and ``collect`` takes away what nobody
uses: dead containers and images.
"""
