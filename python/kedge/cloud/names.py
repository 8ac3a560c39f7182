# SPDX-License-Identifier: Apache-2.0
"""Node names, and which key holds which of them.

A node's name is pinned to the public key that joined with it: an annotation on its Node, written
before the certificate leaves. Another key gets the name only with a token that allows re-joining,
or after the Node was deleted. A Node that kedge did not create (no pin) cannot be taken over.
The certificate names the Node by UID: who deletes a Node, or lets another key take its name, refuses
the certificates that went with it (decision 0064; the hub checks it, ``hub/admission.rs``). Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedge.errors import Invalid, Rejected

if TYPE_CHECKING:
    from kedge.hub.tokens import Grant

PIN = "kedge.io/public-key"
"""The annotation that holds the hash of the public key that a name belongs to."""
EDGE_LABELS = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}
"""The labels that KubeEdge puts on its nodes."""
ORGANIZATION = "system:nodes"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def user_of(node: str) -> str:
    """The common name in a node's certificate."""
    return f"system:node:{node}"


def uri_of(node: dict[str, Any]) -> str:
    """How a certificate names the Node that it is for."""
    return f"urn:uuid:{node['metadata']['uid']}"


def check_name(name: object) -> str:
    """A node name that Kubernetes accepts (RFC 1123 subdomain).

    Raises:
        Invalid: it does not.
    """
    if not isinstance(name, str) or len(name) > 253 or not _NAME.fullmatch(name):
        raise Invalid(
            "node name: wanted at most 253 lower-case letters, digits, dashes and dots, "
            f"got: {name!r:.80}"
        )
    return name


def pin_of(node: dict[str, Any] | None) -> str:
    """The key hash that holds a Node's name; empty when nobody does."""
    if node is None:
        return ""
    annotations = node.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(PIN, ""))


def may_take(name: str, key_hash: str, grant: Grant, node: dict[str, Any] | None) -> bool:
    """Whether the pin must be written; refuses who may not have the name.

    Args:
        name: the name asked for.
        key_hash: the hash of the public key in the request.
        grant: what the token allows.
        node: the Node of that name, if there is one.

    Returns:
        True when the key is to be pinned, False when it holds the name already.

    Raises:
        Rejected: the rule that stands against it.
    """
    if grant.node and grant.node != name:
        raise Rejected(f"node {name}: the token is for node {grant.node} alone")
    if node is None:
        return True
    pin = pin_of(node)
    if pin == key_hash:
        return False
    if grant.rejoin:
        return True
    if not pin:
        raise Rejected(f"node {name}: a Node of that name exists that did not join through kedge")
    raise Rejected(f"node {name}: the name belongs to a node with another key")


def may_renew(name: str, uid: str, key_hash: str, wanted: str, node: dict[str, Any] | None) -> bool:
    """Whether the pin must be written for a renewal; refuses who does not hold the name.

    Args:
        name: the node's.
        uid: of the Node that the present certificate is for.
        key_hash: the hash of its public key.
        wanted: the hash of the public key in the request.
        node: the Node of that name, if there is one.

    Raises:
        Rejected: the Node is gone or another one, or its name belongs to another key.
    """
    if node is None or node["metadata"].get("uid") != uid:
        raise Rejected(f"node {name}: its Node was deleted: join it again with a token")
    held = pin_of(node)
    if held not in (key_hash, wanted):
        raise Rejected(f"node {name}: the name belongs to another key")
    return held != wanted


def may_leave(name: str, uid: str, key_hash: str, node: dict[str, Any]) -> bool:
    """Whether a Node is to be deleted with its node; False when it is another Node by now.

    Args:
        name: the node's.
        uid: of the Node that its certificate is for.
        key_hash: the hash of its public key.
        node: the Node of that name.

    Raises:
        Rejected: the name belongs to another key.
    """
    if not uid or node["metadata"].get("uid") != uid:
        return False
    if pin_of(node) != key_hash:
        raise Rejected(f"node {name}: the name belongs to another key")
    return True


def new_node(name: str, key_hash: str) -> dict[str, Any]:
    """The Node that stands for a name until the node registers itself."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {PIN: key_hash}},
    }


def pin_patch(key_hash: str, resource_version: str = "") -> dict[str, Any]:
    """The merge patch that pins a name to a key; with a version, only if nobody was faster."""
    metadata: dict[str, Any] = {"annotations": {PIN: key_hash}}
    if resource_version:
        metadata["resourceVersion"] = resource_version
    return {"metadata": metadata}
