# SPDX-License-Identifier: Apache-2.0
"""What Services lead to: EndpointSlices and Endpoints of those that select pods.

``slices`` and ``subsets`` decide, ``controller`` acts; both kinds are made in one turn from the same pods.
"""
