# SPDX-License-Identifier: Apache-2.0
"""HorizontalPodAutoscalers: as many replicas as their metrics ask for.

``samples`` reads what the metrics APIs answer, ``replicas`` works out a number from it, ``limits`` how far and how
fast one may go, ``metrics`` asks for one metric, ``look`` does what is to be done about one autoscaler, and ``controller`` says when.
The first three are pure; all but the last are loaded with the first autoscaler.
"""
