# SPDX-License-Identifier: Apache-2.0
"""EndpointSlices made of Endpoints that somebody writes for a Service without a selector.

``plan`` decides, ``controller`` acts.
"""
