# SPDX-License-Identifier: Apache-2.0
"""What a client can ask for: the discovery documents, made from ``KINDS``. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kedge.api.kinds import KINDS, REVIEWS, USAGE, Kind, Subresource

Object = dict[str, Any]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
AGGREGATED_VERSIONS = ("v2", "v2beta1")


def groups(*, with_usage: bool = False) -> dict[tuple[str, str], list[Kind]]:
    """Rows by group and version, in the table's order.

    Args:
        with_usage: also what is asked of nodes, which OpenAPI does not describe.
    """
    result: dict[tuple[str, str], list[Kind]] = defaultdict(list)
    for kind in (*KINDS, *REVIEWS, *(USAGE if with_usage else ())):
        result[kind.group, kind.version].append(kind)
    return dict(result)


def documents(address: str) -> dict[str, Object]:
    """Every plain discovery document by path.

    Args:
        address: host and port that clients reach the server at.
    """
    result: dict[str, Object] = {
        "/api": {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        },
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()},
    }
    for one in _groups():
        result[f"/apis/{one['name']}"] = {"kind": "APIGroup", "apiVersion": "v1", **one}
    for (group, version), kinds in groups(with_usage=True).items():
        resources = [row for kind in kinds for row in _rows(kind)]
        result[kinds[0].base] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": sorted(resources, key=lambda row: str(row["name"])),
        }
    return result


def aggregated(*, core: bool, version: str) -> Object:
    """All groups in one document; the core group is served at ``/api``, the others at ``/apis``."""
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None}
            if group
            else {"creationTimestamp": None},
            "versions": [
                {
                    "version": group_version,
                    "resources": [
                        _described(kind) for kind in sorted(kinds, key=lambda kind: kind.resource)
                    ],
                    "freshness": "Current",
                }
            ],
        }
        for (group, group_version), kinds in groups(with_usage=True).items()
        if core == (group == "")
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _groups() -> list[Object]:
    result = []
    for group, version in groups(with_usage=True):
        if group:
            served = {"groupVersion": f"{group}/{version}", "version": version}
            result.append({"name": group, "versions": [served], "preferredVersion": served})
    return result


def _rows(kind: Kind) -> list[Object]:
    row: Object = {
        "name": kind.resource,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        row["shortNames"] = list(kind.short_names)
    if kind.categories:
        row["categories"] = list(kind.categories)
    return [row, *(_subrow(kind, one) for one in kind.subresources)]


def _subrow(kind: Kind, one: Subresource) -> Object:
    row: Object = {
        "name": f"{kind.resource}/{one.name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": one.kind or kind.kind,
        "verbs": list(one.verbs),
    }
    if one.kind and (one.group, one.version) != (kind.group, kind.version):
        row["group"], row["version"] = one.group, one.version
    return row


def _described(kind: Kind) -> Object:
    described: Object = {
        "resource": kind.resource,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        described["shortNames"] = list(kind.short_names)
    if kind.categories:
        described["categories"] = list(kind.categories)
    if kind.subresources:
        described["subresources"] = [
            {
                "subresource": one.name,
                "responseKind": {
                    "group": one.group if one.kind else kind.group,
                    "version": one.version or kind.version,
                    "kind": one.kind or kind.kind,
                },
                "verbs": list(one.verbs),
            }
            for one in kind.subresources
        ]
    return described
