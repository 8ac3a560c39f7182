# SPDX-License-Identifier: Apache-2.0
"""Which resources are extended ones: brought by device plugins or administrators. Pure."""

from __future__ import annotations

MAX_NAME = 253 + 1 + 63


def is_extended(name: str) -> bool:
    """Whether a resource is named ``vendor.example/thing``, outside Kubernetes' own domain."""
    domain, slash, rest = name.partition("/")
    return bool(
        slash
        and domain
        and rest
        and "/" not in rest
        and len(name) <= MAX_NAME
        and domain != "kubernetes.io"
        and not domain.endswith(".kubernetes.io")
        and not name.startswith("requests.")
    )
