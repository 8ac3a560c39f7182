# SPDX-License-Identifier: Apache-2.0
"""Who may do what, answered for those who ask (``kubectl auth can-i``).

The rows are the ones that Rust enforces (``kedge.cluster.apiserver.server.POLICY``); this only
reads them. RBAC will take this module's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Policy = Sequence[Mapping[str, Sequence[str]]]


def allows(policy: Policy, groups: Sequence[str], verb: str, resource: str, namespace: str) -> bool:
    """Whether somebody may do something to a resource.

    Args:
        policy: the rows.
        groups: whom the user belongs to.
        verb: as in ``get``.
        resource: as in ``pods``, ``pods/status`` or ``deployments.apps/scale``.
        namespace: where; empty for all.
    """
    return any(
        _covers(row.get("groups", ()), groups)
        and _has(row.get("verbs", ()), verb)
        and _has(row.get("resources", ()), resource)
        and ("namespaces" not in row or namespace in row["namespaces"])
        for row in policy
    )


def allows_path(policy: Policy, groups: Sequence[str], path: str) -> bool:
    """Whether somebody may read a path that is not a resource's."""
    return any(
        _covers(row.get("groups", ()), groups)
        and any(
            url in ("*", path) or (url.endswith("*") and path.startswith(url[:-1]))
            for url in row.get("urls", ())
        )
        for row in policy
    )


def _covers(wanted: Sequence[str], groups: Sequence[str]) -> bool:
    return any(group in wanted for group in groups)


def _has(wanted: Sequence[str], value: str) -> bool:
    return "*" in wanted or value in wanted
