# SPDX-License-Identifier: Apache-2.0
"""What becomes of a mirror pod that a node reports: checked, bound to that node, owned by its Node; pure.

The hub has seen that the report is of this node and of no pod of another one. Here is decided what
such a pod may say, as NodeRestriction of kube-apiserver does: it may not refer to objects, which would
bring them into the node's view, and it goes when its Node goes.
"""

from __future__ import annotations

from typing import Any

from kedge.api import static_pods
from kedge.errors import Invalid

Object = dict[str, Any]


def mirror_pod(reported: Object, node: Object) -> Object:
    """The pod to create.

    Args:
        reported: as the node sent it.
        node: its Node in the API.

    Raises:
        Invalid: it is no mirror pod of this node.
    """
    metadata, spec = reported["metadata"], reported.get("spec")
    name = node["metadata"]["name"]
    where = f"mirror pod {metadata.get('namespace')}/{metadata.get('name')}"
    if not isinstance(spec, dict) or spec.get("nodeName") != name:
        raise Invalid(f"{where}: wanted spec.nodeName: {name}")
    try:
        is_mirror = bool(static_pods.mirrored(reported))
        found = static_pods.references(spec)
    except (AttributeError, TypeError, KeyError) as error:
        raise Invalid(f"{where}: not a pod: {error}") from error
    if not is_mirror:
        raise Invalid(f"{where}: wanted the annotation {static_pods.MIRROR}")
    if found:
        raise Invalid(f"{where}: may not refer to objects of the API: {found[0]}")
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": name,
        "uid": node["metadata"]["uid"],
        "controller": True,
    }
    kept = {
        field: metadata[field]
        for field in ("name", "namespace", "labels", "annotations")
        if metadata.get(field)
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": kept | {"ownerReferences": [owner]},
        "spec": spec,
    }
