# SPDX-License-Identifier: Apache-2.0
"""Which PersistentVolume fits a claim, and how much room nodes have for new ones. Pure.

The controller of volumes and the scheduler both decide by these rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.machinery.selectors import labels_match, node_term_matches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import Node
    from kedge.cluster.machinery.storage import Claim, StorageClass, Volume

LOCAL_PATH = "kedge.io/local-path"
"""The built-in provisioner: a directory of the node that the pod was given."""
NO_PROVISIONER = "kubernetes.io/no-provisioner"
POOL = "kedge.io/local-storage"
"""The resource in which a node tells its disk for local volumes: capacity is its size, allocatable what is free."""
ONE_POD = "ReadWriteOncePod"
HOSTNAME = "kubernetes.io/hostname"


def class_of(claim: Claim, classes: Iterable[StorageClass]) -> StorageClass | None:
    """The class of a claim; the default one (the newest, if there are several) when it names none."""
    if claim.class_name is not None:
        return next((one for one in classes if one.name == claim.class_name), None)
    return default_class(classes)


def default_class(classes: Iterable[StorageClass]) -> StorageClass | None:
    """The newest class that is marked as the default one."""
    found = [one for one in classes if one.is_default]
    return max(found, key=lambda one: (one.created, one.name), default=None)


def is_meant_for(volume: Volume, claim: Claim) -> bool:
    """Whether a volume's ``claimRef`` names this claim."""
    reference = volume.claim
    return (
        reference is not None
        and (reference.namespace, reference.name) == claim.key
        and reference.uid in ("", claim.uid)
    )


def mismatch(claim: Claim, volume: Volume) -> str:
    """Why a volume that a claim names cannot serve it; empty when it can."""
    if volume.is_block != claim.is_block:
        return f'incompatible volumeMode on claim "{claim.name}" and volume "{volume.name}"'
    if volume.size < claim.size:
        return "requested PV is too small"
    if volume.class_name != (claim.class_name or ""):
        return "storageClassName does not match"
    if not set(claim.modes) <= set(volume.modes):
        return "incompatible accessMode"
    return ""


def reachable(volume: Volume, node: Node) -> bool:
    """Whether a node can use a volume."""
    if volume.terms is None:
        return True
    return any(node_term_matches(term, node.name, node.labels) for term in volume.terms)


def candidates(claim: Claim, volumes: Iterable[Volume]) -> list[Volume]:
    """The volumes that a claim could be bound to, the best first: meant for it, then the smallest.

    Args:
        claim: it names no volume yet.
        volumes: all of them.
    """
    found = [one for one in volumes if not one.deleted and _may_have(claim, one)]
    return sorted(found, key=lambda one: (one.claim is None, one.size, one.name))


def _may_have(claim: Claim, volume: Volume) -> bool:
    if mismatch(claim, volume):
        return False
    if volume.claim is not None:
        return is_meant_for(volume, claim)
    if volume.phase not in ("Available", "Pending"):
        return False
    return claim.selector is None or labels_match(claim.selector, volume.labels)


def host_of(volume: Volume) -> str:
    """The hostname of the one node that a local-path volume is on; empty for others."""
    if volume.provisioned_by != LOCAL_PATH:
        return ""
    for term in volume.terms or ():
        for one in term.match_expressions or ():
            if one.key == HOSTNAME and one.operator == "In" and len(one.values or ()) == 1:
                return (one.values or ("",))[0]
    return ""


def hostname(node: Node) -> str:
    """What a node is called in volumes that are on it."""
    return node.labels.get(HOSTNAME, node.name)


def given(volumes: Iterable[Volume]) -> dict[str, int]:
    """Bytes of local-path volumes by the hostname of their node."""
    found: dict[str, int] = {}
    for one in volumes:
        host = host_of(one)
        if host:
            found[host] = found.get(host, 0) + one.size
    return found


def room(node: Node, given: int, promised: int = 0) -> int:
    """Bytes that a new local-path volume may have on a node.

    What was given counts, whether it is written yet or not; and what is not free now cannot be given.

    Args:
        node: as it reported.
        given: bytes of the volumes that it has.
        promised: bytes of volumes that are about to be made there.
    """
    return min(node.volume_pool - given, node.allocatable.get(POOL, 0)) - promised
