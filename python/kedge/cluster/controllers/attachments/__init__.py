# SPDX-License-Identifier: Apache-2.0
"""Attaching CSI volumes to nodes: a ``VolumeAttachment`` for each node whose pods need the volume.

``plan`` decides, ``controller`` watches and writes. The driver's own attacher does the attaching and
says so in the object's status.
"""
